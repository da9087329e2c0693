import { describe, expect, it } from 'vitest';

import { distFaults, importedPackages, readInstructions, undeclaredImports } from './alone-readme.mjs';
import type { Manifest } from './workspaces.mjs';

const readme = [
  '# @moebius/routing',
  '',
  '```',
  'npm i --ignore-scripts @moebius/routing @tensorflow/tfjs@4.22.0 left-pad   # both',
  '```',
  '',
  '```ts',
  "import { runSync } from '@moebius/core';",
  "import { topK } from '@moebius/routing/testing';",
  "import { join } from 'node:path';",
  "import { sep } from 'path';",
  '```',
  '',
  '```ts',
  "import { second } from 'second';",
  '```',
].join('\n');

describe('readInstructions', () => {
  it('reads the packages and versions of the first npm line, and the first example', () => {
    const { install, code, line } = readInstructions('@moebius/routing', readme);
    expect(install).toEqual({
      '@moebius/routing': undefined,
      '@tensorflow/tfjs': '4.22.0',
      'left-pad': undefined,
    });
    expect(code).toContain('runSync');
    expect(code).not.toContain('second');
    expect(line).toBe(8);
  });

  it('installs the package itself where the README has no npm line', () => {
    const { install, code } = readInstructions('@moebius/core', '# core\n\nRun npm i of something.\n');
    expect(install).toEqual({ '@moebius/core': undefined });
    expect(code).toBeUndefined();
  });
});

describe('importedPackages', () => {
  it("names packages once, without subpaths, relative files and Node's own", () => {
    const { code = '' } = readInstructions('@moebius/routing', readme);
    expect(importedPackages(`${code}\nimport './near.ts'; await import('@moebius/core/x');`)).toEqual([
      '@moebius/core',
      '@moebius/routing',
    ]);
  });
});

describe('undeclaredImports', () => {
  it('finds an import that only hoisting makes work', () => {
    const { code = '', install } = readInstructions('@moebius/routing', readme);
    expect(undeclaredImports(code, Object.keys(install))).toEqual([
      'the first example imports @moebius/core, which the README does not tell to install',
    ]);
    expect(undeclaredImports(code, ['@moebius/core', '@moebius/routing'])).toEqual([]);
  });
});

describe('distFaults', () => {
  const manifest: Manifest = {
    name: '@moebius/tensor',
    dependencies: { zod: '4.6.7' },
    peerDependencies: { vitest: '^4.1.0' },
  };

  it('accepts what is declared, in whatever way', () => {
    const code =
      "import 'zod'; import 'vitest'; import '@moebius/tensor'; import './chunk.js'; import 'node:fs';";
    expect(distFaults(manifest, [{ file: 'a.js', code, sources: ['../src/index.ts'] }])).toEqual([]);
  });

  it('finds an import without a declaration and a package that was copied in', () => {
    const sources = [
      '../../node_modules/@vitest/runner/dist/a.js',
      '../../node_modules/@vitest/runner/dist/b.js',
    ];
    expect(distFaults(manifest, [{ file: 'a.js', code: "import 'yauzl';", sources }])).toEqual([
      'a.js imports yauzl, which its package.json does not declare',
      'a.js holds a copy of @vitest/runner (declare it as a dependency)',
    ]);
  });
});
