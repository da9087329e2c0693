/**
 * @file Regular expressions on parameter ids, as settings write them.
 */

/** Whether a text is the source of a regular expression. */
export function isPattern(text: string): boolean {
  try {
    return new RegExp(text, 'u') instanceof RegExp;
  } catch {
    return false;
  }
}

/** A phrase for every text that is not a regular expression. */
export function patternFaults(name: string, patterns: readonly string[]): string[] {
  return patterns
    .filter((pattern) => !isPattern(pattern))
    .map((pattern) => `${name} must be a regular expression, got ${pattern}`);
}
