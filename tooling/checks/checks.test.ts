/** @file Builds small repositories with one fault each, and one without, and runs the checks over them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { findAnatomyFaults } from './anatomy.mjs';
import { findExportFaults } from './exports.mjs';
import { findLayerFaults } from './layers.mjs';

const folder = mkdtempSync(join(tmpdir(), 'moebius-checks-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Files = Record<string, string | object>;

/** A sound repository of two packages, with some files replaced. */
function repository(changes: Files = {}): string {
  const root = mkdtempSync(join(folder, 'repository-'));
  const files: Files = {
    'package.json': { workspaces: ['packages/*'] },
    ...packageFiles('core', 0, {}),
    ...packageFiles('routing', 2, { '@moebius/core': '^0.1.0' }),
    'packages/routing/src/route.ts':
      "import { core } from '@moebius/core';\nexport const route: number = core;\n",
    ...changes,
  };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return root;
}

function manifest(name: string, dependencies: Record<string, string>): object {
  return {
    name: `@moebius/${name}`,
    type: 'module',
    exports: { '.': { '@moebius/source': './src/index.ts', default: './dist/index.js' } },
    scripts: { build: '', 'lint:package': '', test: '', typecheck: '' },
    dependencies,
  };
}

function packageFiles(name: string, layer: number, dependencies: Record<string, string>): Files {
  const at = `packages/${name}`;
  return {
    [`${at}/package.json`]: manifest(name, dependencies),
    [`${at}/turbo.json`]: { tags: [`l${layer}`] },
    [`${at}/README.md`]: '# x\n\n```ts\nexport {};\n```\n',
    [`${at}/src/index.ts`]: "export { x } from './x.ts';\n",
    [`${at}/src/x.ts`]: 'export const x: number = 1;\n',
    [`${at}/dist/index.js`]: 'export const x = 1;\n',
  };
}

describe('check-layers', () => {
  const faultsOf = (changes: Files): string[] => findLayerFaults(repository(changes)).faults;

  it('accepts edges that go down and are declared', () => {
    const { faults, imports } = findLayerFaults(repository());
    expect(faults).toEqual([]);
    expect(imports).toBe(3);
  });
  it('refuses an edge that goes up', () => {
    const changes = { 'packages/core/package.json': manifest('core', { '@moebius/routing': '^0.1.0' }) };
    expect(faultsOf(changes)).toEqual([expect.stringContaining('does not go down')]);
  });
  it('refuses an edge inside a layer', () => {
    const changes = packageFiles('tensor', 1, { '@moebius/safetensors': '^0.1.0' });
    const both = { ...changes, ...packageFiles('safetensors', 1, {}) };
    expect(faultsOf(both)).toEqual([expect.stringContaining('packages/tensor (L1)')]);
  });
  it('refuses an undeclared import', () => {
    const changes = { 'packages/core/src/x.ts': "import 'zod';\nexport const x: number = 1;\n" };
    expect(faultsOf(changes)).toEqual([
      expect.stringContaining('imports zod, which @moebius/core does not declare'),
    ]);
  });
  it('refuses TensorFlow.js outside tensor, in type imports too', () => {
    const changes = {
      'packages/routing/src/x.ts':
        "import type { Tensor } from '@tensorflow/tfjs';\nexport type X = Tensor;\n",
    };
    expect(faultsOf(changes)).toEqual([expect.stringContaining('only packages/tensor may')]);
  });
  it('refuses a relative import into another package', () => {
    const changes = { 'packages/routing/src/x.ts': "export { x } from '../../core/src/x.ts';\n" };
    expect(faultsOf(changes)).toEqual([expect.stringContaining('outside its own workspace')]);
  });
  it('refuses a folder without a layer and a tag that disagrees', () => {
    expect(faultsOf(packageFiles('surprise', 3, {}))).toContain(
      'packages/surprise: has no layer (add it to tooling/checks/workspaces.mjs)',
    );
    expect(faultsOf({ 'packages/core/turbo.json': { tags: ['l3'] } })).toEqual([
      expect.stringContaining('tags must hold l0'),
    ]);
  });
});

describe('check-exports', () => {
  const faultsOf = async (changes: Files): Promise<string[]> =>
    (await findExportFaults(repository(changes), { load: true })).faults;

  it('accepts a build that matches', async () => {
    expect(await faultsOf({})).toEqual([]);
  });
  it('refuses a path that was not built', async () => {
    const broken = { ...manifest('core', {}), exports: { './extra': { default: './dist/extra.js' } } };
    expect(await faultsOf({ 'packages/core/package.json': broken })).toContain(
      'packages/core: names ./dist/extra.js, which does not exist (build first)',
    );
  });
  it('refuses a built entry that nothing exports, and lets chunks be', async () => {
    const changes = {
      'packages/core/dist/x.js': 'export {};\n',
      'packages/core/dist/chunk-ABC.js': 'export {};\n',
    };
    expect(await faultsOf(changes)).toEqual([expect.stringContaining('neither exports nor bin')]);
  });
  it('refuses an entry that plain Node cannot import, or that is empty', async () => {
    const changes = {
      'packages/core/dist/index.js': "import './missing.js';\n",
      'packages/routing/dist/index.js': 'export {};\n',
    };
    expect(await faultsOf(changes)).toEqual([
      expect.stringContaining('cannot be imported'),
      expect.stringContaining('exports nothing at run time'),
    ]);
  });
  it('refuses a command without its first line', async () => {
    const broken = { ...manifest('core', {}), bin: { core: './dist/index.js' } };
    expect(await faultsOf({ 'packages/core/package.json': broken })).toEqual([
      expect.stringContaining('is a command'),
    ]);
  });
});

describe('check-anatomy', () => {
  const faultsOf = (changes: Files): string[] => findAnatomyFaults(repository(changes)).faults;

  it('accepts a package with all its parts', () => {
    expect(findAnatomyFaults(repository())).toEqual({ packages: 2, faults: [] });
  });
  it('refuses a README without an example, other scripts, vague names and code in an index', () => {
    const faults = faultsOf({
      'packages/core/README.md': '# core\n',
      'packages/core/package.json': { ...manifest('core', {}), scripts: { build: '' } },
      'packages/core/src/utils.ts': 'export {};\n',
      'packages/core/src/index.ts': "export * from './x.ts';\nexport const y: number = 1;\n",
    });
    expect(faults).toEqual([
      expect.stringContaining('no ```ts example'),
      expect.stringContaining('scripts must be'),
      expect.stringContaining('index.ts:1'),
      expect.stringContaining('index.ts:2'),
      expect.stringContaining('utils.ts: the name says nothing'),
    ]);
  });
});
