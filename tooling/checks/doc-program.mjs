/**
 * @file Type-checks and runs examples against the built packages, as somebody who installed them would.
 *
 * Two courtesies keep doc comments short. A name that the comment's own package exports is imported by itself; a name
 * with a shape suffix that nothing declares (`hidden_TD`) is a tensor of that rank. Everything else must be there.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import ts from 'typescript';

/** @typedef {import('./doc-examples.mjs').Example} Example */

/** Inside node_modules, so that the packages resolve and nothing is left in the tree. */
const scratchFolder = 'node_modules/.cache/moebius-docs';

/** @type {ts.CompilerOptions} */
const compilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  strict: true,
  skipLibCheck: true,
  noEmit: true,
  types: ['node'],
};

/** Cannot find name; did you mean; no value for a shorthand property. */
const unknownNameCodes = new Set([2304, 2552, 18004]);

/**
 * @param {string} root
 * @param {readonly Example[]} examples
 * @returns {string[]} one fault per compiler error
 */
export function typeCheckExamples(root, examples) {
  const scratch = join(root, scratchFolder);
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  writeFileSync(join(scratch, 'package.json'), '{ "type": "module" }\n');
  const files = examples.map((_, index) => join(scratch, `example-${index}.ts`));
  const preambles = examples.map(() => 'export {};');
  const write = () =>
    examples.forEach((example, index) =>
      writeFileSync(/** @type {string} */ (files[index]), `${preambles[index]}\n${example.code}`),
    );
  write();
  for (const { index, name } of unknownNames(compile(root, files), files)) {
    const example = /** @type {Example} */ (examples[index]);
    preambles[index] += ` ${declarationOf(root, example, name) ?? ''}`;
  }
  write();
  return compile(root, files).flatMap((diagnostic) => {
    const index = files.indexOf(diagnostic.file?.fileName ?? '');
    const example = examples[index];
    const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, ' ');
    if (example === undefined || diagnostic.file === undefined) return [message];
    const { line } = diagnostic.file.getLineAndCharacterOfPosition(diagnostic.start ?? 0);
    return [`${example.file}:${example.line + line - 1}: ${message}`];
  });
}

/**
 * @param {string} root
 * @param {string[]} files
 * @returns {readonly ts.Diagnostic[]}
 */
function compile(root, files) {
  const options = { ...compilerOptions, typeRoots: [join(root, 'node_modules/@types')] };
  return ts.getPreEmitDiagnostics(ts.createProgram(files, options));
}

/**
 * @param {readonly ts.Diagnostic[]} diagnostics
 * @param {readonly string[]} files
 * @returns {{ index: number, name: string }[]} each unknown name of each example, once
 */
function unknownNames(diagnostics, files) {
  const found = diagnostics.flatMap(({ code, file, messageText }) => {
    if (!unknownNameCodes.has(code) || file === undefined) return [];
    const name = /'([^']+)'/.exec(ts.flattenDiagnosticMessageText(messageText, ' '))?.[1];
    return name === undefined ? [] : [JSON.stringify({ index: files.indexOf(file.fileName), name })];
  });
  return [...new Set(found)].map((text) => JSON.parse(text));
}

/**
 * @param {string} root
 * @param {Example} example
 * @param {string} name
 * @returns {string | undefined}
 */
function declarationOf(root, example, name) {
  const entry = example.owner === undefined ? undefined : entryExporting(root, example.owner, name);
  if (entry !== undefined) return `import { ${name} } from '${entry}';`;
  const letters = /_([A-Z]{1,6})$/.exec(name)?.[1];
  if (letters === undefined) return undefined;
  return `declare const ${name}: import('@moebius/tensor').Tensor${letters.length}D;`;
}

/**
 * @param {string} root
 * @param {string} owner
 * @param {string} name
 * @returns {string | undefined} the import specifier that offers the name
 */
function entryExporting(root, owner, name) {
  const folder = join(root, 'node_modules', owner);
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  for (const [key, entry] of Object.entries(manifest.exports ?? {})) {
    const source = typeof entry === 'string' ? undefined : entry['@moebius/source'];
    if (source === undefined) continue;
    const text = readFileSync(join(folder, source), 'utf8');
    if (new RegExp(`[{,\\s]${name}[,\\s}]`).test(text)) return owner + key.slice(1);
  }
  return undefined;
}

/**
 * @param {string} root
 * @param {readonly Example[]} examples those of one earlier {@link typeCheckExamples}
 * @param {(line: string) => void} log
 * @returns {string[]}
 */
export function runExamples(root, examples, log) {
  const scratch = join(root, scratchFolder);
  return examples.flatMap((example, index) => {
    if (!example.runnable) return [];
    const file = join(scratch, `run-${index}.mjs`);
    const options = { ...compilerOptions, noEmit: false, module: ts.ModuleKind.ESNext };
    writeFileSync(file, ts.transpileModule(example.code, { compilerOptions: options }).outputText);
    const started = performance.now();
    const { status, stderr, signal } = spawnSync(process.execPath, [file], {
      cwd: scratch,
      encoding: 'utf8',
      timeout: 180_000,
      env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '3' },
    });
    log(`${example.file}:${example.line} ran in ${((performance.now() - started) / 1000).toFixed(1)} s`);
    if (status === 0) return [];
    const why = signal === null ? `exit ${status}` : `ended by ${signal}`;
    return [
      `${example.file}:${example.line}: the example fails (${why}): ${stderr.trim().split('\n').slice(-12).join('\n  ')}`,
    ];
  });
}
