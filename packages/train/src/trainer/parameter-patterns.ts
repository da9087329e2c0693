/**
 * @file Patterns on parameter names: regular expressions, presets that stand for one, and what was meant when one matches nothing.
 */

const presets: { readonly [name: string]: string } = {
  '@norms': 'norm',
  '@router': '\\.(gate|router)\\.',
  '@embeddings': 'embed|lm_head',
  '@experts': '\\.experts\\.',
  '@attention': '\\.self_attn\\.',
};

/** Names that may stand for a pattern. */
export const presetNames: readonly string[] = Object.keys(presets);

/** Whether a text is a regular expression. */
export function isPattern(text: string): boolean {
  try {
    new RegExp(text, 'u').test('');
    return true;
  } catch {
    return false;
  }
}

/** Whether a text that looks like a preset is one. */
export function isKnownPreset(text: string): boolean {
  return !text.startsWith('@') || presetNames.includes(text);
}

/** The regular expression that a pattern stands for. */
export function patternSource(pattern: string): string {
  return presets[pattern] ?? pattern;
}

/** A test of parameter names. */
export function compilePattern(pattern: string): (id: string) => boolean {
  const expression = new RegExp(patternSource(pattern), 'u');
  return (id) => expression.test(id);
}

/**
 * The parameters that a pattern most likely meant: those with a part closest to it by edit distance, numbers apart.
 *
 * @param ids - names to choose from
 * @param limit - how many to give
 */
export function nearestIds(pattern: string, ids: readonly string[], limit: number = 3): readonly string[] {
  const plain = pattern.replaceAll(/\\d/gu, '0').replaceAll(/[\\^$()[\]{}|*+?]/gu, '');
  const byForm = new Map<string, string>();
  for (const id of ids) {
    const form = id.replaceAll(/\d+/gu, '0');
    if (!byForm.has(form)) byForm.set(form, id);
  }
  return [...byForm]
    .map(([form, id]) => ({ id, distance: distanceToPart(plain.replaceAll(/\d+/gu, '0'), form) }))
    .toSorted((left, right) => left.distance - right.distance)
    .slice(0, limit)
    .map(({ id }) => id);
}

/** Edits that turn `pattern` into some part of `text`. */
function distanceToPart(pattern: string, text: string): number {
  let previous = Array.from({ length: text.length + 1 }, () => 0);
  for (const [row, letter] of [...pattern].entries()) {
    const current = [row + 1];
    for (const [column, other] of [...text].entries()) {
      const replaced = (previous[column] ?? 0) + (letter === other ? 0 : 1);
      current.push(Math.min(replaced, (previous[column + 1] ?? 0) + 1, (current[column] ?? 0) + 1));
    }
    previous = current;
  }
  return Math.min(...previous);
}
