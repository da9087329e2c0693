/**
 * @file Finds the examples people read: every ```ts block of a README, of a page in docs/ and of a doc comment.
 *
 * A block runs when its fence says `runnable`, when it is the first one of a README, or when it stands in a how-to page
 * and its fence does not say `types-only`. Others are type-checked.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import ts from 'typescript';

import { listFiles, listWorkspaces, shown } from './workspaces.mjs';

/**
 * @typedef {object} Example
 * @property {string} file relative to the root
 * @property {number} line where its code begins, counted from 1
 * @property {string} code
 * @property {boolean} runnable
 * @property {string | undefined} owner the package whose exports a doc comment may use without importing them
 */

/**
 * @param {string} root
 * @returns {Example[]}
 */
export function findExamples(root) {
  const workspaces = listWorkspaces(root).filter(({ folder }) => /^(packages|apps)\//.test(folder));
  const readmes = [
    { folder: '.', name: undefined },
    ...workspaces.map(({ folder, manifest }) => ({ folder, name: manifest.name })),
  ];
  const fromReadmes = readmes.flatMap(({ folder }) => {
    const file = join(root, folder, 'README.md');
    return existsSync(file) ? readmeExamples(shown(root, file), readFileSync(file, 'utf8')) : [];
  });
  const fromGuides = listFiles(join(root, 'docs'), ['.md']).flatMap((file) =>
    guideExamples(shown(root, file), readFileSync(file, 'utf8')),
  );
  const fromSources = workspaces.flatMap(({ path, manifest }) =>
    listFiles(join(path, 'src'), ['.ts'])
      .filter((file) => !/\.test(-d)?\.ts$/.test(file))
      .flatMap((file) => docExamples(shown(root, file), readFileSync(file, 'utf8'), manifest.name)),
  );
  return [...fromReadmes, ...fromGuides, ...fromSources];
}

/**
 * Every block of a how-to page runs unless its fence says `types-only`; other pages of docs/ only show types.
 *
 * @param {string} file
 * @param {string} text
 * @returns {Example[]}
 */
export function guideExamples(file, text) {
  const isGuide = file.startsWith('docs/how-to/');
  return fencedBlocks(text).map(({ code, line, runnable, typesOnly }) => ({
    file,
    line,
    code,
    runnable: runnable || (isGuide && !typesOnly),
    owner: undefined,
  }));
}

/**
 * @param {string} file
 * @param {string} text
 * @returns {Example[]}
 */
export function readmeExamples(file, text) {
  const blocks = fencedBlocks(text);
  return blocks.map(({ code, line, runnable }, index) => ({
    file,
    line,
    code,
    runnable: runnable || index === 0,
    owner: undefined,
  }));
}

/**
 * @param {string} file
 * @param {string} text
 * @param {string} owner
 * @returns {Example[]}
 */
export function docExamples(file, text, owner) {
  return docComments(text).flatMap(({ start, content }) => {
    const bare = content.replace(/^[ \t]*\* ?/gm, '');
    const firstLine = text.slice(0, start).split('\n').length;
    return fencedBlocks(bare).map(({ code, line, runnable }) => ({
      file,
      line: firstLine + line - 1,
      code,
      runnable,
      owner,
    }));
  });
}

/**
 * @param {string} text
 * @returns {{ start: number, content: string }[]} doc comments, without the opening and closing marks
 */
function docComments(text) {
  const scanner = ts.createScanner(ts.ScriptTarget.Latest, false, ts.LanguageVariant.Standard, text);
  /** @type {{ start: number, content: string }[]} */
  const found = [];
  for (let kind = scanner.scan(); kind !== ts.SyntaxKind.EndOfFileToken; kind = scanner.scan()) {
    const token = scanner.getTokenText();
    if (kind !== ts.SyntaxKind.MultiLineCommentTrivia || !token.startsWith('/**')) continue;
    found.push({ start: scanner.getTokenStart(), content: token.slice(3, -2) });
  }
  return found;
}

/**
 * @param {string} text
 * @returns {{ code: string, line: number, runnable: boolean, typesOnly: boolean }[]} blocks whose fence says ts
 */
function fencedBlocks(text) {
  /** @type {ReturnType<typeof fencedBlocks>} */
  const blocks = [];
  for (const match of text.matchAll(/^([ \t]*)```(\S*)[ \t]*([^\n]*)\n([\s\S]*?)^[ \t]*```[ \t]*$/gm)) {
    const [, indent = '', language = '', flags = '', body = ''] = match;
    if (language !== 'ts' && language !== 'typescript') continue;
    const line = text.slice(0, match.index).split('\n').length + 1;
    blocks.push({
      code: body.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
      line,
      runnable: /\brunnable\b/.test(flags),
      typesOnly: /\btypes-only\b/.test(flags),
    });
  }
  return blocks;
}
