/** @file Examples are found where they stand, and a wrong one is reported at its line. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, describe, expect, it } from 'vitest';

import { docExamples, guideExamples, readmeExamples } from './doc-examples.mjs';
import { runExamples, typeCheckExamples } from './doc-program.mjs';

const root = mkdtempSync(join(tmpdir(), 'moebius-docs-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
mkdirSync(join(root, 'node_modules/@moebius/tensor/src'), { recursive: true });
mkdirSync(join(root, 'node_modules/@types'), { recursive: true });
symlinkSync(
  fileURLToPath(new URL('../../node_modules/@types/node', import.meta.url)),
  join(root, 'node_modules/@types/node'),
);
const manifest = {
  name: '@moebius/tensor',
  type: 'module',
  exports: { '.': { '@moebius/source': './src/index.ts', types: './index.d.ts', default: './index.js' } },
};
const at = join(root, 'node_modules/@moebius/tensor');
writeFileSync(join(at, 'package.json'), JSON.stringify(manifest));
writeFileSync(join(at, 'src/index.ts'), "export { double } from './double.ts';\n");
writeFileSync(
  join(at, 'index.d.ts'),
  'export interface Tensor2D { rank: 2 }\nexport declare function double(x: Tensor2D): number;\n',
);
writeFileSync(join(at, 'index.js'), 'export function double() { return 2; }\n');

describe('finding examples', () => {
  it('takes the ts blocks of a README with their lines; the first runs', () => {
    const text =
      '# x\n\n```sh\nnpm start\n```\n\n```ts\nconst a = 1;\n```\n\n```ts\nconst b = 2;\n```\n\n```ts runnable\nc;\n```\n';
    const found = readmeExamples('README.md', text).map(({ line, runnable, code }) => ({
      line,
      runnable,
      code,
    }));
    expect(found).toEqual([
      { line: 8, runnable: true, code: 'const a = 1;\n' },
      { line: 12, runnable: false, code: 'const b = 2;\n' },
      { line: 16, runnable: true, code: 'c;\n' },
    ]);
  });
  it('runs every block of a how-to page that does not ask for types only, and none of another page', () => {
    const text = '```ts\na;\n```\n\n```ts types-only\nb;\n```\n';
    const runnable = (file: string) => guideExamples(file, text).map((example) => example.runnable);
    expect(runnable('docs/how-to/train.md')).toEqual([true, false]);
    expect(runnable('docs/architecture/tasks.md')).toEqual([false, false]);
  });
  it('takes the blocks of doc comments and no others', () => {
    const text = [
      '/**',
      ' * Doubles.',
      ' *',
      ' * @example',
      ' * ```ts',
      ' * double(x_TD);',
      ' * ```',
      ' */',
      'const s = "```ts\\nnot this\\n```"; /* ```ts',
      'nor this',
      '``` */',
    ].join('\n');
    const [example, ...others] = docExamples('double.ts', text, '@moebius/tensor');
    expect(others).toEqual([]);
    expect(example).toMatchObject({
      line: 6,
      code: 'double(x_TD);\n',
      owner: '@moebius/tensor',
      runnable: false,
    });
  });
});

describe('checking examples', () => {
  const example = (code: string, owner: string | undefined, runnable = false) => ({
    file: 'a.md',
    line: 10,
    code,
    owner,
    runnable,
  });

  it('accepts own exports and shape-suffixed tensors in doc comments', () => {
    expect(
      typeCheckExamples(root, [example('const n: number = double(x_TD);\n', '@moebius/tensor')]),
    ).toEqual([]);
  });
  it('reports a wrong type and an unknown name at its line', () => {
    const faults = typeCheckExamples(root, [
      example('const n: string = double(x_TD);\n', '@moebius/tensor'),
      example('const a = 1;\ndouble(a);\n', undefined),
    ]);
    expect(faults).toEqual([
      expect.stringMatching(/^a\.md:10: Type 'number'/),
      expect.stringMatching(/^a\.md:11: /),
    ]);
  });
  it('runs runnable examples and reports those that throw', () => {
    const sound = example(
      "import { double } from '@moebius/tensor';\nconsole.log(double({ rank: 2 }));\n",
      undefined,
      true,
    );
    const broken = example("throw new Error('as it must');\n", undefined, true);
    const examples = [sound, broken, example("throw new Error('never run');\n", undefined)];
    expect(typeCheckExamples(root, examples)).toEqual([]);
    expect(runExamples(root, examples, () => {})).toEqual([expect.stringContaining('as it must')]);
  });
});
