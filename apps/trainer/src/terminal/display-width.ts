/**
 * @file How many columns of a terminal a text takes: names of runs come from outside and may hold anything.
 *
 * A grapheme is 2 columns wide when it is East Asian or an emoji, 0 when nothing of it is drawn, else 1. Terminals disagree
 * about rare sequences; a column too many costs nothing, because lines are cut one column early.
 */

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' });
const invisible = /^[\p{Mn}\p{Me}\p{Cf}\p{Cc}\p{Cs}]*$/u;
const emoji = /\p{Emoji_Presentation}|\uFE0F/u;
const eastAsian =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\u3000-\u303E\uFE30-\uFE4F\uFF01-\uFF60\uFFE0-\uFFE6]/u;
/** Katakana and Hangul that are narrow. */
const halfwidth = /[\uFF61-\uFFDC]/u;

/** Latin letters, figures and the glyphs of our own bars: one column each, without looking for graphemes. */
const plain = /^[\u0020-\u007E\u2500-\u259F]*$/;

/** Columns of a text without escape sequences. */
export function displayWidth(text: string): number {
  if (plain.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment);
  return width;
}

/** A text of at most so many columns: a longer one ends with `…`. */
export function cutToWidth(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  let kept = '';
  let width = 0;
  for (const { segment } of graphemes.segment(text)) {
    const next = graphemeWidth(segment);
    if (width + next > columns - 1) break;
    kept += segment;
    width += next;
  }
  return columns < 1 ? '' : `${kept}…`;
}

/** One line: every control character, line ends included, becomes a space. */
export function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, ' ');
}

function graphemeWidth(grapheme: string): number {
  if (invisible.test(grapheme)) return 0;
  if (halfwidth.test(grapheme)) return 1;
  return emoji.test(grapheme) || eastAsian.test(grapheme) ? 2 : 1;
}
