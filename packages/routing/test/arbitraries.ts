import fc from 'fast-check';

/** A batch of top-k choices with a mask. */
export interface Choices {
  readonly experts: number;
  readonly topK: number;
  readonly lists: number[][];
  readonly mask: Uint8Array;
}

/** Up to 12 tokens over up to 9 experts, every k from 1 to E, some tokens masked. */
export const topKChoices: fc.Arbitrary<Choices> = fc.integer({ min: 1, max: 9 }).chain((experts) =>
  fc.integer({ min: 1, max: experts }).chain((topK) =>
    fc
      .array(
        fc.record({
          list: fc.shuffledSubarray(
            Array.from({ length: experts }, (_, e) => e),
            { minLength: topK, maxLength: topK },
          ),
          kept: fc.boolean(),
        }),
        { maxLength: 12 },
      )
      .map((rows) => ({
        experts,
        topK,
        lists: rows.map((row) => row.list),
        mask: Uint8Array.from(rows, (row) => (row.kept ? 1 : 0)),
      })),
  ),
);

/** Any number of experts for each token. */
export const raggedChoices: fc.Arbitrary<{ experts: number; lists: number[][] }> = fc
  .integer({ min: 1, max: 9 })
  .chain((experts) =>
    fc
      .array(
        fc.shuffledSubarray(
          Array.from({ length: experts }, (_, e) => e),
          { minLength: 0 },
        ),
        { maxLength: 10 },
      )
      .map((lists) => ({ experts, lists })),
  );

/** The grouping of ragged lists. */
export function offsetsOf(lists: readonly (readonly number[])[]): Int32Array {
  return Int32Array.from([0, ...lists.map((_, t) => lists.slice(0, t + 1).flat().length)]);
}
