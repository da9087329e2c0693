/**
 * @file Finds what Markdown points to and is not there: files, headings, paths of the repository in `code`, scripts.
 */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

import { listFiles, listWorkspaces, readJson, shown } from './workspaces.mjs';

/** Made by programs, or not ours. */
const skippedFolders = new Set([
  'node_modules',
  'dist',
  '.git',
  '.turbo',
  '__fixtures__',
  'runs',
  'coverage',
]);
/** What `npm run docs` makes is not in the tree. */
const made = /^docs\/api(\/|$)/;
/** A source by the end of its path, as pages of the architecture name it. */
const sourceName = /^(?:\.\.\/)*([\w./-]+\.(?:ts|mjs|cc|h))$/;
/** A path of the repository as people write it; patterns and placeholders are not looked up. */
const repositoryPath =
  /^(?:\.\/)?((?:packages|apps|tooling|docs|examples|benchmarks|scripts|\.ci)\/[\w./@-]+)$/;

/**
 * @param {string} root
 * @returns {{ files: number, links: number, faults: string[] }}
 */
export function findLinkFaults(root) {
  /** @type {Map<string, Set<string>>} */
  const anchors = new Map();
  const anchorsOf = (/** @type {string} */ file) => {
    const known = anchors.get(file) ?? headingAnchors(readFileSync(file, 'utf8'));
    anchors.set(file, known);
    return known;
  };
  const sources = listWorkspaces(root).flatMap(({ path }) => listFiles(path, ['.ts', '.mjs', '.cc', '.h']));
  const files = markdownFiles(root).filter((file) => !made.test(shown(root, file)));
  let links = 0;
  const faults = files.flatMap((file) => {
    const found = findLinks(readFileSync(file, 'utf8'));
    links += found.length;
    const isArchitecture = shown(root, file).startsWith('docs/architecture/');
    return found.flatMap((link) => {
      const isNamed = link.kind !== 'name' || sources.some((source) => source.endsWith(`/${link.target}`));
      if (link.kind === 'name' && (isNamed || !isArchitecture)) return [];
      const fault = isNamed
        ? linkFault(root, file, link, anchorsOf)
        : `\`${link.target}\`: must be the end of a source's path, got none of that name`;
      return fault === undefined ? [] : [`${shown(root, file)}:${link.line}: ${fault}`];
    });
  });
  return { files: files.length, links, faults };
}

/**
 * @typedef {object} Link
 * @property {number} line
 * @property {'link' | 'path' | 'name' | 'script'} kind a Markdown link, a path or a source's name in `code`, or the name
 *   behind `npm run`
 * @property {string} target
 */

/**
 * @param {string} text Markdown
 * @returns {Link[]}
 */
export function findLinks(text) {
  /** @type {Link[]} */
  const found = [];
  let fenced = false;
  for (const [index, line] of text.split('\n').entries()) {
    const at = index + 1;
    const add = (/** @type {Link['kind']} */ kind, /** @type {string | undefined} */ target) => {
      if (target !== undefined) found.push({ line: at, kind, target });
    };
    if (/^\s*```/.test(line)) fenced = !fenced;
    const shell = fenced ? [line] : [...line.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
    for (const code of shell) {
      add('script', /\bnpm run (?:-\S+ )*([\w:-]+)(?!.*(?:-w|--workspace))/.exec(code)?.[1]);
      add('path', /(?:^|\s)(?:node|tsx) ([\w./-]+\.m?[jt]s)\b/.exec(code)?.[1]);
      if (fenced) continue;
      const path = repositoryPath.exec(code.replace(/[:#]\S*$/, ''))?.[1];
      add('path', path);
      if (path === undefined) add('name', sourceName.exec(code)?.[1]);
    }
    if (fenced) continue;
    const bare = line.replaceAll(/`[^`]*`/g, '``');
    for (const [, target] of bare.matchAll(/\]\(<?([^()\s>]+)>?(?: "[^"]*")?\)/g)) add('link', target);
    add('link', /^\[[^\]]+\]:\s+<?([^\s>]+)/.exec(bare)?.[1]);
    for (const [, target] of bare.matchAll(/(?:href|src)="([^"]+)"/g)) add('link', target);
  }
  return found;
}

/**
 * @param {string} root
 * @param {string} file
 * @param {Link} link
 * @param {(file: string) => Set<string>} anchorsOf
 * @returns {string | undefined}
 */
function linkFault(root, file, { kind, target }, anchorsOf) {
  if (kind === 'script') {
    const scripts = readJson(join(root, 'package.json')).scripts ?? {};
    return target in scripts
      ? undefined
      : `npm run ${target}: must be a script of the root, got none of that name`;
  }
  if (kind === 'path') {
    const places = [root, dirname(file)].map((folder) => resolve(folder, target));
    const outside = !repositoryPath.test(target);
    if (outside || made.test(target) || places.some((place) => existsSync(place))) return undefined;
    return `\`${target}\`: must be there, got nothing`;
  }
  if (/^[a-z][a-z+.-]*:/i.test(target)) return undefined;
  const [path = '', anchor] = target.split('#');
  const place = path === '' ? file : resolve(dirname(file), decodeURIComponent(path));
  if (made.test(shown(root, place))) return undefined;
  if (!existsSync(place)) return `${target}: must lead to a file or folder, got nothing`;
  if (anchor === undefined || !place.endsWith('.md') || statSync(place).isDirectory()) return undefined;
  return anchorsOf(place).has(anchor) ? undefined : `${target}: must name a heading, got none of that name`;
}

/**
 * Names of headings as GitHub makes them.
 *
 * @param {string} text Markdown
 * @returns {Set<string>}
 */
export function headingAnchors(text) {
  const anchors = new Set([...text.matchAll(/\b(?:id|name)="([^"]+)"/g)].map(([, name = '']) => name));
  for (const [, heading = ''] of text
    .replaceAll(/^```[\s\S]*?^```/gm, '')
    .matchAll(/^#{1,6} +(.+?) *#* *$/gm)) {
    const words = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const name = words.replaceAll(/[^\p{L}\p{N}\p{M} _-]/gu, '').replaceAll(' ', '-');
    let unique = name;
    for (let count = 1; anchors.has(unique); count += 1) unique = `${name}-${count}`;
    anchors.add(unique);
  }
  return anchors;
}

/**
 * @param {string} folder
 * @returns {string[]}
 */
function markdownFiles(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return skippedFolders.has(entry.name) ? [] : markdownFiles(path);
      return entry.name.endsWith('.md') && entry.name !== 'CHANGELOG.md' ? [path] : [];
    })
    .toSorted();
}
