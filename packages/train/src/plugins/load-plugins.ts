/**
 * @file Plug-ins of a run configuration: the one place of this package where a string becomes code.
 *
 * A specifier is a package, as in an import, or a path that begins with `.` or `/`. Everything a module exports that was
 * made by a `define…` function is a plug-in; other exports are left alone. Modules run with all rights of the process.
 */
import { readFile, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { MoebiusError, isPlugin, nearest } from '@moebius/core';
import type { Plugin } from '@moebius/core';

/** How {@link loadPlugins} resolves. */
export interface LoadPluginsOptions {
  /** Folder from which paths and packages are looked up, as from a module in it. */
  readonly from: string;
}

/** A plug-in and where it came from. */
export interface LoadedPlugin {
  readonly plugin: Plugin;
  /** As written in the configuration. */
  readonly specifier: string;
}

/**
 * Imports modules and collects the plug-ins they export, in the order of the specifiers.
 *
 * @param specifiers - packages or paths of files
 * @throws `plugin` naming the specifier: when a module is not found, throws while it loads, exports no plug-in, or when
 *   two plug-ins of one kind have one name
 * @example
 * ```ts
 * const loaded = await loadPlugins(['./my-loss.js'], { from: 'runs' });
 * for (const { plugin } of loaded) console.log(plugin.kind, plugin.name);
 * ```
 */
export async function loadPlugins(
  specifiers: readonly string[],
  options: LoadPluginsOptions,
): Promise<readonly LoadedPlugin[]> {
  const from = resolve(options.from);
  const loaded: LoadedPlugin[] = [];
  for (const specifier of specifiers) {
    for (const plugin of await importPlugins(specifier, from)) {
      const same = loaded.find(({ plugin: { kind, name } }) => kind === plugin.kind && name === plugin.name);
      if (same?.plugin === plugin) continue;
      if (same !== undefined) throw nameTwice(plugin, same.specifier, specifier);
      loaded.push({ plugin, specifier });
    }
  }
  return loaded;
}

async function importPlugins(specifier: string, from: string): Promise<readonly Plugin[]> {
  const file = await findModule(specifier, from);
  let exported: { readonly [name: string]: unknown };
  try {
    exported = (await import(/* @vite-ignore */ pathToFileURL(file).href)) as {
      readonly [name: string]: unknown;
    };
  } catch (cause) {
    throw pluginError(
      specifier,
      'must load',
      `"${messageOf(cause)}" from ${file} (fix the module, or leave it out)`,
      cause,
    );
  }
  const plugins = [...new Set(Object.values(exported))].filter((value) => isPlugin(value));
  if (plugins.length > 0) return plugins;
  const names = Object.keys(exported).toSorted();
  throw pluginError(
    specifier,
    'must export a plug-in made by defineRouter, defineExpert, defineBalanceLoss, defineExecutor, defineCallback, …',
    names.length === 0 ? 'no exports' : `the exports ${names.join(', ')}`,
  );
}

async function findModule(specifier: string, from: string): Promise<string> {
  try {
    return createRequire(join(from, 'package.json')).resolve(specifier);
  } catch (cause) {
    if ((cause as { code?: unknown }).code === 'ERR_PACKAGE_PATH_NOT_EXPORTED') {
      const remedy = 'give its package.json "exports" a "default" condition';
      throw pluginError(specifier, 'must export its entry', `${messageOf(cause)} (${remedy})`, cause);
    }
    const isPath = specifier.startsWith('.') || isAbsolute(specifier);
    const close = nearest(
      isPath ? basename(specifier) : specifier,
      await knownNames(specifier, from, isPath),
    );
    const install = isPath ? 'name an existing file' : `npm i ${specifier}, or begin a path with ./`;
    const remedy = close === undefined ? install : `did you mean "${close}"?`;
    throw pluginError(specifier, `must be found from ${from}`, `no such module (${remedy})`, cause);
  }
}

/** What could have been meant: files beside the path, or dependencies of the project. */
async function knownNames(specifier: string, from: string, isPath: boolean): Promise<readonly string[]> {
  if (isPath) return readdir(dirname(resolve(from, specifier))).catch(() => []);
  const text = await readFile(join(from, 'package.json'), 'utf8').catch(() => '{}');
  const { dependencies, devDependencies } = JSON.parse(text) as { [kind: string]: object | undefined };
  return Object.keys({ ...dependencies, ...devDependencies });
}

function nameTwice({ kind, name }: Plugin, first: string, second: string): MoebiusError {
  return new MoebiusError({
    code: 'plugin',
    message: `plugins: names of one kind must be unique, got ${kind} "${name}" from ${JSON.stringify(first)} and from ${JSON.stringify(second)} (leave one out)`,
    details: { kind, name, first, second },
  });
}

function pluginError(specifier: string, expectation: string, got: string, cause?: unknown): MoebiusError {
  return new MoebiusError({
    code: 'plugin',
    message: `plugins ${JSON.stringify(specifier)}: ${expectation}, got ${got}`,
    details: { specifier },
    cause,
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
}
