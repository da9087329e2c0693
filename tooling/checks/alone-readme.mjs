/**
 * @file What a README asks a reader to do: which packages to install, and which program to try first.
 */
import { builtinModules } from 'node:module';

import ts from 'typescript';

import { readmeExamples } from './doc-examples.mjs';

/** @typedef {import('./workspaces.mjs').Manifest} Manifest */

const builtins = new Set(builtinModules);

/**
 * @typedef {object} Instructions
 * @property {Readonly<Record<string, string | undefined>>} install packages of the README's first `npm i` line beside
 *   the package itself, with the version where the line gives one
 * @property {string | undefined} code the first example
 * @property {number} line where the code begins, counted from 1
 */

/**
 * @param {string} name the package whose README it is
 * @param {string} text
 * @returns {Instructions}
 */
export function readInstructions(name, text) {
  const [example] = readmeExamples('README.md', text);
  const words = /^(?:```sh\n)?npm (?:i|install) +([^#\n]*)/m.exec(text)?.[1]?.trim().split(/\s+/) ?? [];
  /** @type {Record<string, string | undefined>} */
  const install = { [name]: undefined };
  for (const word of words.filter((candidate) => !candidate.startsWith('-'))) {
    const [, named = word, version] = /^(@?[^@]+)(?:@(.+))?$/.exec(word) ?? [];
    install[named] = version;
  }
  return { install, code: example?.code, line: example?.line ?? 0 };
}

/**
 * @param {string} code TypeScript or JavaScript
 * @returns {string[]} packages that it imports, each once, without Node's own
 */
export function importedPackages(code) {
  const names = ts.preProcessFile(code, true, true).importedFiles.flatMap(({ fileName }) => {
    if (/^(\.|node:|file:)/.test(fileName) || builtins.has(fileName)) return [];
    return [fileName.split('/', fileName.startsWith('@') ? 2 : 1).join('/')];
  });
  return [...new Set(names)];
}

/**
 * A hoisting client hides a package that nobody asked for; a strict one does not.
 *
 * @param {string} code
 * @param {readonly string[]} installed the packages a reader was told to install
 * @returns {string[]}
 */
export function undeclaredImports(code, installed) {
  return importedPackages(code)
    .filter((name) => !installed.includes(name))
    .map((name) => `the first example imports ${name}, which the README does not tell to install`);
}

/**
 * @param {Manifest} manifest of the installed package
 * @param {readonly { file: string, code: string, sources: readonly string[] }[]} files its JavaScript, and what each was
 *   built from
 * @returns {string[]} imports that it does not declare, and packages that were copied into it
 */
export function distFaults(manifest, files) {
  const declared = new Set([
    manifest.name,
    ...Object.keys({
      ...manifest.dependencies,
      ...manifest.peerDependencies,
      ...manifest.optionalDependencies,
    }),
  ]);
  return files.flatMap(({ file, code, sources }) => {
    const copied = sources.flatMap((source) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(source)?.[1] ?? []);
    return [
      ...importedPackages(code)
        .filter((name) => !declared.has(name))
        .map((name) => `${file} imports ${name}, which its package.json does not declare`),
      ...[...new Set(copied)].map((name) => `${file} holds a copy of ${name} (declare it as a dependency)`),
    ];
  });
}
