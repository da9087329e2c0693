/**
 * @file Finds edges that do not go down: in the manifests, and in what the sources really import.
 */
import { readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, resolve } from 'node:path';

import ts from 'typescript';

import { listFiles, listWorkspaces, readJson, shown } from './workspaces.mjs';

/** @typedef {import('./workspaces.mjs').Workspace} Workspace */

const builtins = new Set(builtinModules);
const dependencyKinds = /** @type {const} */ ([
  'dependencies',
  'devDependencies',
  'peerDependencies',
  'optionalDependencies',
]);

/**
 * @param {string} root
 * @returns {{ workspaces: number, imports: number, faults: string[] }}
 */
export function findLayerFaults(root) {
  const workspaces = listWorkspaces(root);
  const byName = new Map(workspaces.map((workspace) => [workspace.manifest.name, workspace]));
  /** @type {string[]} */
  const faults = [];
  let imports = 0;
  for (const workspace of workspaces) {
    faults.push(...manifestFaults(workspace, byName), ...tagFaults(workspace));
    for (const file of listFiles(workspace.path, ['.ts', '.mjs', '.mts'])) {
      const found = ts.preProcessFile(readFileSync(file, 'utf8'), true, true).importedFiles;
      imports += found.length;
      for (const { fileName } of found) {
        const fault = importFault(workspace, file, fileName, root);
        if (fault !== undefined) faults.push(`${shown(root, file)}: ${fault}`);
      }
    }
  }
  return { workspaces: workspaces.length, imports, faults };
}

/**
 * @param {Workspace} workspace
 * @param {Map<string, Workspace>} byName
 * @returns {string[]}
 */
function manifestFaults(workspace, byName) {
  const { folder, layer, manifest } = workspace;
  if (layer === undefined) return [`${folder}: has no layer (add it to tooling/checks/workspaces.mjs)`];
  return dependencyKinds.flatMap((kind) =>
    Object.keys(manifest[kind] ?? {}).flatMap((name) => {
      const target = byName.get(name);
      if (target === undefined) {
        return name.startsWith('@moebius/')
          ? [`${folder}: ${kind} names ${name}, which is no workspace`]
          : [];
      }
      if (target.layer !== undefined && target.layer < layer) return [];
      return [`${folder} (L${layer}): ${kind} on ${name} (L${target.layer}) does not go down`];
    }),
  );
}

/**
 * @param {Workspace} workspace
 * @returns {string[]}
 */
function tagFaults(workspace) {
  if (!/^(packages|apps)\//.test(workspace.folder)) return [];
  /** @type {string[]} */
  let tags = [];
  try {
    tags = readJson(join(workspace.path, 'turbo.json')).tags ?? [];
  } catch {
    return [`${workspace.folder}: has no turbo.json with its layer's tag`];
  }
  return tags.includes(`l${workspace.layer}`)
    ? []
    : [`${workspace.folder}/turbo.json: tags must hold l${workspace.layer}, got ${JSON.stringify(tags)}`];
}

/**
 * @param {Workspace} workspace
 * @param {string} file
 * @param {string} specifier
 * @param {string} root
 * @returns {string | undefined}
 */
function importFault(workspace, file, specifier, root) {
  if (specifier.startsWith('.')) {
    const target = resolve(dirname(file), specifier);
    const tooling = file.endsWith('.config.ts') && target.startsWith(join(root, 'tooling'));
    return target.startsWith(`${workspace.path}/`) || tooling
      ? undefined
      : `imports ${specifier}, outside its own workspace (import the package by name)`;
  }
  if (specifier.startsWith('node:') || builtins.has(specifier)) return undefined;
  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
  const package_ = workspace.folder.startsWith('packages/') || workspace.folder.startsWith('apps/');
  if (package_ && name.startsWith('@tensorflow/') && workspace.folder !== 'packages/tensor') {
    return `imports ${specifier} (only packages/tensor may; import from @moebius/tensor)`;
  }
  if (name === workspace.manifest.name) return undefined;
  return declarationFault(workspace, file, name);
}

/**
 * @param {Workspace} workspace
 * @param {string} file
 * @param {string} name
 * @returns {string | undefined}
 */
function declarationFault(workspace, file, name) {
  const { manifest } = workspace;
  const published =
    manifest.dependencies?.[name] ??
    manifest.peerDependencies?.[name] ??
    manifest.optionalDependencies?.[name];
  if (published !== undefined) return undefined;
  const ownTooling = /\.(test|test-d|config)\.ts$|\/test\/|\/scripts\//.test(file);
  if (ownTooling || manifest.private === true) return undefined;
  return `imports ${name}, which ${manifest.name} does not declare`;
}
