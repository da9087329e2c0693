/**
 * @file The repository as data: its workspaces, their manifests, layers and source files. Every check starts here.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

/**
 * The layer of each workspace folder (AGENTS.md draws them). Arrows go down only, none inside a layer.
 * @type {Readonly<Record<string, number>>}
 */
export const layers = {
  'packages/core': 0,
  'packages/tensor': 1,
  'packages/collectives': 1,
  'packages/safetensors': 1,
  'packages/routing': 2,
  'packages/partition': 3,
  'packages/scmoe': 3,
  'packages/parallel': 3,
  'packages/offload': 3,
  'packages/checkpoint': 3,
  'packages/model': 4,
  'packages/train': 5,
  'apps/trainer': 6,
  examples: 6,
  benchmarks: 6,
};

/**
 * @typedef {object} Manifest
 * @property {string} name
 * @property {boolean} [private]
 * @property {Record<string, string>} [bin]
 * @property {Record<string, string>} [scripts]
 * @property {Record<string, Record<string, string> | string>} [exports]
 * @property {Record<string, string>} [dependencies]
 * @property {Record<string, string>} [devDependencies]
 * @property {Record<string, string>} [peerDependencies]
 * @property {Record<string, string>} [optionalDependencies]
 *
 * @typedef {object} Workspace
 * @property {string} folder relative to the root, with forward slashes
 * @property {string} path absolute
 * @property {Manifest} manifest
 * @property {number | undefined} layer
 */

/**
 * @param {string} path
 * @returns {any}
 */
export function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

/**
 * Every workspace named by the root manifest.
 * @param {string} root
 * @returns {Workspace[]}
 */
export function listWorkspaces(root) {
  /** @type {string[]} */
  const patterns = readJson(join(root, 'package.json')).workspaces;
  const folders = patterns.flatMap((pattern) =>
    pattern.endsWith('/*') ? childFolders(root, pattern.slice(0, -2)) : [pattern],
  );
  return folders
    .filter((folder) => existsSync(join(root, folder, 'package.json')))
    .map((folder) => ({
      folder,
      path: join(root, folder),
      manifest: readJson(join(root, folder, 'package.json')),
      layer: layers[folder],
    }));
}

/**
 * @param {string} root
 * @param {string} parent
 * @returns {string[]}
 */
function childFolders(root, parent) {
  if (!existsSync(join(root, parent))) return [];
  return readdirSync(join(root, parent), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => `${parent}/${entry.name}`)
    .toSorted();
}

const skippedFolders = new Set(['node_modules', 'dist', '.turbo', '__fixtures__', 'results', 'peers']);

/**
 * Files below a folder whose name ends with one of the endings, sorted; build output and fixtures are skipped.
 * @param {string} folder
 * @param {readonly string[]} endings
 * @returns {string[]} absolute paths
 */
export function listFiles(folder, endings) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return skippedFolders.has(entry.name) ? [] : listFiles(path, endings);
      return endings.some((ending) => entry.name.endsWith(ending)) ? [path] : [];
    })
    .toSorted();
}

/**
 * A path as people write it: relative to the root, forward slashes.
 * @param {string} root
 * @param {string} path
 * @returns {string}
 */
export function shown(root, path) {
  return relative(root, path).split(sep).join('/');
}

/**
 * Prints the faults and ends the process with 1, or one line of what was checked.
 * @param {string} name
 * @param {string} checked
 * @param {readonly string[]} faults
 * @returns {void}
 */
export function report(name, checked, faults) {
  for (const fault of faults) console.error(`${name}: ${fault}`);
  if (faults.length > 0) {
    console.error(`${name}: ${faults.length} fault${faults.length === 1 ? '' : 's'}`);
    process.exitCode = 1;
    return;
  }
  console.log(`${name}: ${checked}, no faults`);
}
