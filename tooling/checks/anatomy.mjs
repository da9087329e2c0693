/**
 * @file What every package must have: a README with an example, the same four scripts, one layer tag, an `index.ts`
 * of explicit named exports and nothing else.
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import ts from 'typescript';

import { listFiles, listWorkspaces, shown } from './workspaces.mjs';

/** @typedef {import('./workspaces.mjs').Workspace} Workspace */

const scripts = ['build', 'lint:package', 'test', 'typecheck'];
/** One line a list: several short `export { … } from` of the same file read better than a list broken over lines. */
const maximumIndexLines = 150;
const vagueNames = /^(utils?|helpers?|common|misc)(\.|$)/;

/**
 * @param {string} root
 * @returns {{ packages: number, faults: string[] }}
 */
export function findAnatomyFaults(root) {
  const packages = listWorkspaces(root).filter(({ folder }) => folder.startsWith('packages/'));
  const faults = packages.flatMap((workspace) => [
    ...readmeFaults(workspace),
    ...scriptFaults(workspace),
    ...listFiles(join(workspace.path, 'src'), ['index.ts']).flatMap((file) => indexFaults(root, file)),
    ...listFiles(join(workspace.path, 'src'), ['.ts'])
      .filter((file) => vagueNames.test(basename(file)))
      .map((file) => `${shown(root, file)}: the name says nothing (name the subject)`),
  ]);
  return { packages: packages.length, faults };
}

/**
 * @param {Workspace} workspace
 * @returns {string[]}
 */
function readmeFaults({ folder, path }) {
  const file = join(path, 'README.md');
  if (!existsSync(file)) return [`${folder}: has no README.md`];
  return /^```ts\b/m.test(readFileSync(file, 'utf8')) ? [] : [`${folder}/README.md: has no \`\`\`ts example`];
}

/**
 * @param {Workspace} workspace
 * @returns {string[]}
 */
function scriptFaults({ folder, manifest }) {
  const found = Object.keys(manifest.scripts ?? {}).toSorted();
  if (found.join() === scripts.join()) return [];
  return [`${folder}: scripts must be ${scripts.join(', ')}, got ${found.join(', ')}`];
}

/**
 * @param {string} root
 * @param {string} file
 * @returns {string[]}
 */
function indexFaults(root, file) {
  if (basename(file) !== 'index.ts') return [];
  const text = readFileSync(file, 'utf8');
  const name = shown(root, file);
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest);
  const lines = text.trimEnd().split('\n').length;
  const faults = lines > maximumIndexLines ? [`${name}: ${lines} lines, at most ${maximumIndexLines}`] : [];
  for (const statement of source.statements) {
    const named = ts.isExportDeclaration(statement) && statement.exportClause !== undefined;
    if (named && ts.isNamedExports(/** @type {ts.NamedExportBindings} */ (statement.exportClause))) continue;
    const line = source.getLineAndCharacterOfPosition(statement.getStart(source)).line + 1;
    faults.push(`${name}:${line}: an index holds explicit named exports only`);
  }
  return faults;
}
