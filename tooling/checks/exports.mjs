/**
 * @file Holds each package's `exports` and `bin` against its build: every path exists, every built entry is reachable,
 * and plain Node can import it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { listFiles, listWorkspaces, shown } from './workspaces.mjs';

/** @typedef {import('./workspaces.mjs').Workspace} Workspace */

/**
 * @param {string} root
 * @param {{ load?: boolean }} [options] `load` also imports every entry
 * @returns {Promise<{ entries: number, faults: string[] }>}
 */
export async function findExportFaults(root, options = {}) {
  /** @type {string[]} */
  const faults = [];
  let entries = 0;
  for (const workspace of listWorkspaces(root)) {
    if (workspace.manifest.private === true) continue;
    const targets = targetsOf(workspace);
    entries += targets.length;
    const missing = targets.filter((target) => !existsSync(join(workspace.path, target)));
    faults.push(
      ...missing.map((target) => `${workspace.folder}: names ${target}, which does not exist (build first)`),
    );
    faults.push(...unreachable(root, workspace, new Set(targets)), ...binFaults(workspace));
    if (options.load === true && missing.length === 0) faults.push(...(await loadFaults(workspace)));
  }
  return { entries, faults };
}

/**
 * @param {Workspace} workspace
 * @returns {string[]} every path in `exports` and `bin`
 */
function targetsOf({ manifest }) {
  const exported = Object.values(manifest.exports ?? {}).flatMap((entry) =>
    typeof entry === 'string' ? [entry] : Object.values(entry),
  );
  return [...exported, ...Object.values(manifest.bin ?? {})];
}

/**
 * A built file with a source of the same name is an entry; chunks have none.
 * @param {string} root
 * @param {Workspace} workspace
 * @param {ReadonlySet<string>} targets
 * @returns {string[]}
 */
function unreachable(root, workspace, targets) {
  const dist = join(workspace.path, 'dist');
  return listFiles(dist, ['.js']).flatMap((path) => {
    const inside = path.slice(dist.length + 1);
    const source = join(workspace.path, 'src', inside.replace(/\.js$/, '.ts'));
    if (!existsSync(source) || targets.has(`./dist/${inside}`)) return [];
    return [`${shown(root, path)}: is built as an entry but is in neither exports nor bin`];
  });
}

/**
 * @param {Workspace} workspace
 * @returns {string[]}
 */
function binFaults({ folder, path, manifest }) {
  return Object.values(manifest.bin ?? {}).flatMap((target) => {
    const file = join(path, target);
    if (!existsSync(file) || readFileSync(file, 'utf8').startsWith('#!/usr/bin/env node\n')) return [];
    return [`${folder}: ${target} is a command and must begin with "#!/usr/bin/env node"`];
  });
}

/**
 * @param {Workspace} workspace
 * @returns {Promise<string[]>}
 */
async function loadFaults({ folder, path, manifest }) {
  /** @type {string[]} */
  const faults = [];
  for (const [key, entry] of Object.entries(manifest.exports ?? {})) {
    const target = typeof entry === 'string' ? undefined : entry['default'];
    if (target === undefined) continue;
    try {
      const loaded = await import(pathToFileURL(join(path, target)).href);
      if (Object.keys(loaded).length === 0) faults.push(`${folder}: ${key} exports nothing at run time`);
    } catch (error) {
      faults.push(
        `${folder}: ${key} cannot be imported: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
  return faults;
}
