/** @file A run's configuration for people: one line per value, aligned, with what it means where there is room. */
import { trainConfigDescriptions } from '@moebius/train';
import type { TrainConfig } from '@moebius/train';

import { scalarPaths } from './overrides.ts';
import type { Json } from './overrides.ts';

/** Columns that a description needs to be worth its place. */
const leastDescription = 24;
const longestValue = 40;

/**
 * Lines of a configuration.
 *
 * @param options - `width` of the terminal; `faint` styles descriptions
 */
export function formatConfig(
  config: TrainConfig,
  options: { readonly width: number; readonly faint: (text: string) => string },
): string[] {
  const rows = scalarPaths(config as unknown as Json).map(({ path, value }) => ({
    path,
    value: JSON.stringify(value),
    meaning: describePath(path),
  }));
  const pathWidth = Math.max(...rows.map(({ path }) => path.length));
  const valueWidth = Math.min(longestValue, Math.max(...rows.map(({ value }) => value.length)));
  const room = options.width - pathWidth - valueWidth - 6;
  return rows.map(({ path, value, meaning }) => {
    const start = `${path.padEnd(pathWidth)}  ${value}`;
    if (room < leastDescription || meaning === '' || value.length > longestValue) return start;
    const text = meaning.length <= room ? meaning : `${meaning.slice(0, room - 1).trimEnd()}…`;
    return `${`${path.padEnd(pathWidth)}  ${value.padEnd(valueWidth)}`}  ${options.faint(`# ${text}`)}`;
  });
}

/** The meaning of a value's path; an item of a list has that of the list. */
function describePath(path: string): string {
  return trainConfigDescriptions[path] ?? trainConfigDescriptions[path.replace(/(\.\d+)+$/, '')] ?? '';
}
