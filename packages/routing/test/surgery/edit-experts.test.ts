import { createRng } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  editExpertRows,
  editOptimizerState,
  placesOf,
  planExpertEdit,
} from '../../src/surgery/edit-experts.ts';
import type { AddedExpert, ExpertIds, HostOptimizerState } from '../../src/surgery/edit-experts.ts';
import { randomTensor } from './host-layers.ts';

const ids: ExpertIds = {
  expertOf: (id) => (id.startsWith('experts.') ? Number(id.split('.')[1]) : null),
  withExpert: (id, expert) => id.replace(/^experts\.\d+/, `experts.${expert}`),
  expertAxis: (id) => (id === 'gate.weight' || id === 'gate.bias' ? 0 : null),
};

const edits = fc.integer({ min: 1, max: 8 }).chain((experts) =>
  fc.record({
    experts: fc.constant(experts),
    remove: fc.shuffledSubarray([...Array(experts).keys()], { maxLength: experts - 1 }),
    add: fc.array(fc.oneof(fc.constant<AddedExpert>('fresh'), fc.record({ copyOf: fc.nat(experts - 1) })), {
      maxLength: 4,
    }),
  }),
);

function stateOf(experts: number): { [id: string]: HostOptimizerState } {
  const make = (id: string, shape: number[]): HostOptimizerState => ({
    rule: 'adamw',
    step: 12,
    slots: { first: randomTensor(shape, `${id} first`), second: randomTensor(shape, `${id} second`) },
  });
  const list = Array.from(
    { length: experts },
    (_, e) => [`experts.${e}.up`, make(`experts.${e}.up`, [3, 2])] as const,
  );
  return {
    norm: make('norm', [2]),
    'gate.weight': make('gate.weight', [experts, 2]),
    'gate.bias': make('gate.bias', [experts]),
    ...Object.fromEntries(list),
  };
}

describe('T5 adding and removing experts', () => {
  it('T5: experts that stay keep every bit of weights, router rows and moments; removed ones leave none; added ones have none', () => {
    fc.assert(
      fc.property(edits, ({ experts, remove, add }) => {
        const edit = planExpertEdit({ experts, remove, add });
        const before = stateOf(experts);
        const after = editOptimizerState(before, edit, ids);
        const kept = [...Array(experts).keys()].filter((expert) => !remove.includes(expert));
        expect(edit.after).toBe(kept.length + add.length);
        expect(Object.keys(after).filter((id) => id.startsWith('experts.'))).toEqual(
          kept.map((_, place) => `experts.${place}.up`),
        );
        for (const [place, expert] of kept.entries()) {
          expect(after[`experts.${place}.up`]).toBe(before[`experts.${expert}.up`]);
        }
        expect(after['norm']).toBe(before['norm']);
        for (const [id, width] of [
          ['gate.weight', 2],
          ['gate.bias', 1],
        ] as const) {
          expect(after[id]?.step).toBe(12);
          for (const slot of ['first', 'second']) {
            const [was, is] = [before[id]!.slots[slot]!, after[id]!.slots[slot]!];
            expect(is.shape[0]).toBe(edit.after);
            for (let place = 0; place < edit.after; place += 1) {
              const expert = kept[place];
              const row = [...is.data.subarray(place * width, (place + 1) * width)];
              if (expert === undefined) expect(row).toEqual(row.map(() => 0));
              else expect(row).toEqual([...was.data.subarray(expert * width, (expert + 1) * width)]);
            }
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it('T5: rows of a router follow their experts; copies begin as their original plus noise, fresh ones at random', () => {
    fc.assert(
      fc.property(edits, fc.nat(100), ({ experts, remove, add }, seed) => {
        const edit = planExpertEdit({ experts, remove, add });
        const weight = randomTensor([experts, 3], seed);
        const rng = createRng(seed);
        const { shape, data } = editExpertRows(weight, edit, { noise: 0.1, standardDeviation: 0.02, rng });
        expect(shape).toEqual([edit.after, 3]);
        const rowOf = (values: Float32Array, row: number): number[] => [
          ...values.subarray(row * 3, row * 3 + 3),
        ];
        for (const [place, source] of edit.source.entries()) {
          const got = rowOf(data, place);
          const original = source < 0 ? [0, 0, 0] : rowOf(weight.data, source);
          if (edit.added[place] === 0) expect(got).toEqual(original);
          else {
            expect(got).not.toEqual(original);
            const size = source < 0 ? 0.02 : 0.1 * Math.hypot(...original);
            expect(Math.hypot(...got.map((value, d) => value - original[d]!))).toBeLessThan(7 * size);
          }
        }
        expect(editExpertRows(weight, edit, { noise: 0.1, standardDeviation: 0.02, rng }).data).toEqual(data);
      }),
      { numRuns: 100 },
    );
  });

  it('T5: an edit that changes nothing changes nothing, and taking an added expert away again undoes it', () => {
    const none = planExpertEdit({ experts: 4 });
    const weight = randomTensor([4, 3], 1);
    expect(editExpertRows(weight, none)).toEqual(weight);
    const more = planExpertEdit({ experts: 4, add: [{ copyOf: 2 }] });
    const back = planExpertEdit({ experts: 5, remove: [4] });
    expect(editExpertRows(editExpertRows(weight, more), back)).toEqual(weight);
    const state = stateOf(4);
    expect(editOptimizerState(editOptimizerState(state, more, ids), back, ids)).toEqual(state);
  });

  it('edits along any axis', () => {
    const edit = planExpertEdit({ experts: 3, remove: [0], add: [{ copyOf: 0 }, 'fresh'] });
    const tensor = { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) };
    expect(editExpertRows(tensor, edit, { axis: 1 })).toEqual({
      shape: [2, 4],
      data: Float32Array.of(2, 3, 1, 0, 5, 6, 4, 0),
    });
  });

  it('says who is who', () => {
    const edit = planExpertEdit({ experts: 4, remove: [2, 0], add: [{ copyOf: 0 }, 'fresh'] });
    expect(edit).toEqual({
      before: 4,
      after: 4,
      source: Int32Array.of(1, 3, 0, -1),
      added: Uint8Array.of(0, 0, 1, 1),
      removed: [0, 2],
    });
    expect(placesOf(edit)).toEqual([undefined, 0, undefined, 1]);
  });

  it('says what does not fit', () => {
    const cases: readonly (readonly [() => unknown, string])[] = [
      [() => planExpertEdit({ experts: 4, remove: [4] }), 'remove: must name experts from 0 to 3, got 4'],
      [() => planExpertEdit({ experts: 4, remove: [1, 1] }), 'remove: must name an expert once, got 1 twice'],
      [() => planExpertEdit({ experts: 2, remove: [0, 1] }), 'remove: must leave an expert, got all 2'],
      [
        () => planExpertEdit({ experts: 2, add: [{ copyOf: 0.5 }] }),
        'add: must name experts from 0 to 1, got 0.5',
      ],
      [
        () => editExpertRows(randomTensor([3, 2], 1), planExpertEdit({ experts: 4 })),
        'router tensor: must have 4 experts along axis 0, got [3, 2]',
      ],
      [
        () =>
          editExpertRows(randomTensor([3, 2], 1), planExpertEdit({ experts: 3, add: ['fresh'] }), {
            standardDeviation: 1,
          }),
        'rng: must be given for fresh rows or noise, got none',
      ],
    ];
    for (const [call, message] of cases) expect(call).toThrow(message);
  });
});
