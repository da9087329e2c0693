/** @file What Markdown points to must be there; a small tree with one fault of each kind shows that it is noticed. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { findLinkFaults, findLinks, headingAnchors } from './doc-links.mjs';

const folder = mkdtempSync(join(tmpdir(), 'moebius-links-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function faultsOf(readme: string, page = ''): string[] {
  const root = mkdtempSync(join(folder, 'tree-'));
  const files = {
    'package.json': '{ "scripts": { "docs": "x" }, "workspaces": ["packages/*"] }',
    'packages/core/package.json': '{ "name": "core" }',
    'packages/core/src/task.ts': '',
    'docs/architecture/tasks.md': page,
    'README.md': readme,
    'docs/page.md': '# One page\n\n## Twice\n\n## Twice\n',
    'tooling/check.mjs': '',
    'node_modules/x/README.md': '[broken](nowhere.md)',
  };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return findLinkFaults(root).faults;
}

describe('links of Markdown', () => {
  it('that lead to files, folders, headings, sites and what is made later are accepted', () => {
    const text =
      '# Top\n[a](docs/page.md) [b](docs/page.md#twice-1) [c](#top) [d](docs) [e](https://x.org/y) [f](docs/api/x.html)';
    expect(faultsOf(text)).toEqual([]);
  });
  it.each([
    ['[a](docs/pages.md)', 'README.md:1: docs/pages.md: must lead to a file or folder, got nothing'],
    ['\n![a](./x.svg "t")', 'README.md:2: ./x.svg: must lead to a file or folder, got nothing'],
    [
      '[a](docs/page.md#thrice)',
      'README.md:1: docs/page.md#thrice: must name a heading, got none of that name',
    ],
    ['# Top\n[a](#bottom)', 'README.md:2: #bottom: must name a heading, got none of that name'],
    ['<img src="a.svg">', 'README.md:1: a.svg: must lead to a file or folder, got nothing'],
    ['[a]: docs/b.md', 'README.md:1: docs/b.md: must lead to a file or folder, got nothing'],
    ['see `docs/old.md:12`', 'README.md:1: `docs/old.md`: must be there, got nothing'],
    ['```sh\nnode tooling/gone.mjs\n```', 'README.md:2: `tooling/gone.mjs`: must be there, got nothing'],
    ['`npm run dosc`', 'README.md:1: npm run dosc: must be a script of the root, got none of that name'],
  ])('in %j is a fault', (text, fault) => expect(faultsOf(text)).toEqual([fault]));
  it('in code are no links, and a path with a placeholder is no path', () => {
    expect(
      findLinks('`[a](b.md)` `packages/<name>/x.ts`\n```\n[a](b.md)\n```\n`npm run x --workspace y`'),
    ).toEqual([]);
  });
  it('by the end of a path are followed in pages of the architecture, where files are named that way', () => {
    expect(faultsOf('`tsk.ts`', '`task.ts` `src/task.ts` `../src/task.ts`')).toEqual([]);
    expect(faultsOf('', '`core/tsk.ts`')).toEqual([
      "docs/architecture/tasks.md:1: `core/tsk.ts`: must be the end of a source's path, got none of that name",
    ]);
  });
  it('name headings as GitHub does', () => {
    expect([
      ...headingAnchors('# A `b` & [c](d)!\n```sh\n# not\n```\n## A-b_c 2\n### Über\n<a id="here">'),
    ]).toEqual(['here', 'a-b--c', 'a-b_c-2', 'über']);
  });
});
