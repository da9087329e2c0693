/** @file Runs the real oxlint with the real plugin over small files: each rule fires, and does not fire. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'moebius-lint-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Diagnostic {
  readonly code: string;
  readonly message: string;
}

/** Lints `source` with one rule of ours, or with the repository's own configuration when no rule is given. */
function lint(source: string, rule: string): string[] {
  const config = join(folder, 'config.json');
  writeFileSync(
    config,
    JSON.stringify({
      jsPlugins: [join(root, 'tooling/oxlint-plugin/index.mjs')],
      categories: { correctness: 'off' },
      rules: { [`moebius/${rule}`]: 'error' },
    }),
  );
  writeFileSync(join(folder, 'sample.ts'), source);
  return run(['-c', config, join(folder, 'sample.ts')], folder).map((fault) => fault.message);
}

/** Lints a tree of files with the repository's `.oxlintrc.json`, as if it stood at the repository's root. */
function lintTree(files: Record<string, string>): string[] {
  const tree = mkdtempSync(join(folder, 'tree-'));
  cpSync(join(root, '.oxlintrc.json'), join(tree, '.oxlintrc.json'));
  cpSync(join(root, 'tooling/oxlint-plugin'), join(tree, 'tooling/oxlint-plugin'), { recursive: true });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    writeFileSync(join(tree, path), text);
  }
  return run(Object.keys(files), tree).map((fault) => fault.code);
}

function run(parameters: string[], cwd: string): Diagnostic[] {
  let output: string;
  try {
    output = execFileSync(join(root, 'node_modules/.bin/oxlint'), ['-f', 'json', ...parameters], {
      cwd,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    output = (error as { stdout: string }).stdout;
  }
  const report = JSON.parse(output) as { number_of_files: number; diagnostics: Diagnostic[] };
  expect(report.number_of_files).toBeGreaterThan(0);
  return report.diagnostics;
}

describe('moebius/shape-doc', () => {
  const body = "import type { Tensor2D } from 'x';\n";
  it('fires on an exported tensor function without a doc comment', () => {
    const faults = lint(`${body}export function f(x_TD: Tensor2D): Tensor2D { return x_TD; }`, 'shape-doc');
    expect(faults).toEqual([expect.stringContaining('f: an exported function')]);
  });
  it('fires when the doc comment names no shape', () => {
    const source = `${body}/** Adds, see [the page](https://x). */\nexport function f(options: { x: Tensor2D }): void { void options; }`;
    expect(lint(source, 'shape-doc')).toHaveLength(1);
  });
  it('is silent when the shape is documented, for functions without tensors, and inside a module', () => {
    const source = `${body}/** @param x_TD - float32 [T, D] */\nexport function f(x_TD: Tensor2D): void { void x_TD; }
/** @param loss - float32 [] */\nexport function g(loss: Tensor2D): void { void loss; }
/** @param q_TZ - \`[B·S, H·C]\` */\nexport function h(q_TZ: Tensor2D): void { void q_TZ; }
export function plain(x: number): number { return x; }\nfunction hidden(x: Tensor2D): void { void x; }\nhidden;`;
    expect(lint(source, 'shape-doc')).toEqual([]);
  });
});

describe('moebius/no-tfjs-import', () => {
  it('fires on value, type, dynamic and re-export imports', () => {
    const source = `import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs-core';
export { tidy } from '@tensorflow/tfjs';
export * from '@tensorflow/tfjs-core';
export type T = import('@tensorflow/tfjs').Tensor;
export const later = import('@tensorflow/tfjs-node-gpu');\ntf; export type U = Tensor;`;
    expect(lint(source, 'no-tfjs-import').length).toBeGreaterThanOrEqual(5);
  });
  it('is silent on @moebius/tensor', () => {
    expect(lint("import { tidy } from '@moebius/tensor';\ntidy(() => 1);", 'no-tfjs-import')).toEqual([]);
  });
});

describe('moebius/no-async-tidy', () => {
  it('fires on async and generator bodies of tidy and defineOp', () => {
    const source = `tf.tidy(async () => { await 1; });\ntidy('name', async function () {});\ndefineOp('x', function* () {});`;
    expect(lint(source, 'no-async-tidy')).toHaveLength(3);
  });
  it('is silent on plain bodies and on async bodies of other calls', () => {
    expect(lint('tidy(() => 1);\nrun(async () => 1);', 'no-async-tidy')).toEqual([]);
  });
});

describe('moebius/no-tensor-map', () => {
  it('fires on maps and sets of tensors in types and constructors', () => {
    const source = `let a: Map<string, Tensor2D>;\nlet b: ReadonlySet<Tensor>;\nconst c = new Map<number, { w: Variable }>();`;
    expect(lint(source, 'no-tensor-map')).toHaveLength(3);
  });
  it('is silent on maps of other things and on records of tensors', () => {
    const source = `let a: Map<string, number>;\nlet b: Record<string, Tensor2D>;\nlet c: WeakMap<Tensor, number>;`;
    expect(lint(source, 'no-tensor-map')).toEqual([]);
  });
});

describe('moebius/no-ambient', () => {
  it('fires on randomness, time, environment and console', () => {
    const source = `Math.random();\nDate.now();\nnew Date();\nprocess.env['X'];\nconsole.log(1);\nprocess.exit(1);`;
    expect(lint(source, 'no-ambient')).toHaveLength(6);
  });
  it('is silent on arguments with the same use', () => {
    const source = `clock.now();\nnew Date(0);\nMath.floor(1.5);\nrng.random();\nprocess.platform;`;
    expect(lint(source, 'no-ambient')).toEqual([]);
  });
});

describe('.oxlintrc.json', () => {
  const ambient = 'export const now: number = Date.now();\n';
  it('holds packages to no-ambient, and frees apps and tests', () => {
    const codes = lintTree({
      'packages/core/src/a.ts': ambient,
      'apps/trainer/src/a.ts': ambient,
      'packages/core/src/a.test.ts': ambient,
    });
    expect(codes).toEqual(['moebius(no-ambient)']);
  });
  it('lets only packages/tensor import TensorFlow.js', () => {
    const text = "import type { Tensor } from '@tensorflow/tfjs';\nexport type T = Tensor;\n";
    const codes = lintTree({ 'packages/tensor/src/a.ts': text, 'packages/model/src/a.ts': text });
    expect(codes).toEqual(['moebius(no-tfjs-import)']);
  });
  it('refuses long files, camel-case names, any, default exports and import cycles', () => {
    const codes = lintTree({
      'packages/core/src/long.ts': 'export const x: number = 1;\n' + '\n'.repeat(400),
      'packages/core/src/camelCase.ts': 'export const x: any = 1;\n',
      'packages/core/src/one.ts':
        "import { two } from './two.ts';\nexport const one: number = two;\nexport default one;\n",
      'packages/core/src/two.ts': "import { one } from './one.ts';\nexport const two: number = one;\n",
    });
    expect([...new Set(codes)].toSorted()).toEqual([
      'eslint(max-lines)',
      'import(no-cycle)',
      'import(no-default-export)',
      'typescript(no-explicit-any)',
      'unicorn(filename-case)',
    ]);
  });
  it('allows the non-null assertion in kernels only', () => {
    const text = 'export function first(values: Int32Array): number {\n  return values[0]!;\n}\n';
    const codes = lintTree({ 'packages/core/src/sum.kernel.ts': text, 'packages/core/src/sum.ts': text });
    expect(codes).toEqual(['typescript(no-non-null-assertion)']);
  });
});
