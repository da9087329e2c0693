/** @file Layer times from plans: examples worked by hand, and what must hold for every plan. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { capacityPolicy, parseCapacityConfig, planCapacity, planPairs } from '../../src/index.ts';
import type { DispatchPlan } from '../../src/index.ts';
import { createLatencyModel, expertSeconds, parseExpertTimes } from '../../src/latency/index.ts';

/** A plan from the experts of each token. */
function planOf(experts: number, lists: readonly (readonly number[])[]): DispatchPlan {
  const tokenOffsets = new Int32Array(lists.length + 1);
  for (const [t, list] of lists.entries()) tokenOffsets[t + 1] = (tokenOffsets[t] ?? 0) + list.length;
  return planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets });
}

const linear = { rows: [1], seconds: [1] };

describe('expertSeconds', () => {
  const times = parseExpertTimes({ rows: [4, 8, 16], seconds: [1, 2, 6] });
  it.each([
    [0, 0],
    [1, 1],
    [4, 1],
    [6, 1.5],
    [8, 2],
    [12, 4],
    [16, 6],
    [32, 12],
  ])('of %i rows is %d', (rows, seconds) => {
    expect(expertSeconds(times, rows)).toBe(seconds);
  });
  it('never falls with more rows', () => {
    const tables = fc
      .array(fc.record({ gap: fc.integer({ min: 1, max: 9 }), rise: fc.nat(5) }), {
        minLength: 1,
        maxLength: 6,
      })
      .map((steps) => {
        let [rows, seconds] = [0, 0];
        const entries = steps.map(({ gap, rise }) => [(rows += gap), (seconds += rise)] as const);
        return { rows: entries.map(([row]) => row), seconds: entries.map(([, second]) => second) };
      });
    fc.assert(
      fc.property(tables, fc.nat(80), fc.nat(80), (table, a, b) => {
        const [low, high] = a < b ? [a, b] : [b, a];
        expect(expertSeconds(table, high)).toBeGreaterThanOrEqual(expertSeconds(table, low));
      }),
    );
  });
  it('refuses a negative number of rows', () => {
    expect(() => expertSeconds(times, -1)).toThrow(
      'expert rows: must be at least 0, got -1 (count the pairs of the expert)',
    );
  });
});

describe('parseExpertTimes', () => {
  it('tells every fault of a table at once', () => {
    expect(() => parseExpertTimes({ rows: [4, 4, 0], seconds: [2, 1] })).toThrow(/rows\[2\]: must be/);
    expect(() => parseExpertTimes({ rows: [4, 4], seconds: [2, 1, 3] })).toThrow(
      'expert times: must be a valid configuration, got 3 faults:\n' +
        '  seconds: must have an entry for each of 2 rows entries, got [2,1,3]\n' +
        '  rows[1]: must be above the entry before, 4, got 4\n' +
        '  seconds[1]: must be at least the entry before, 2, got 1',
    );
  });
});

describe('createLatencyModel', () => {
  // Four experts on two devices, four tokens: 0 and 1 belong to device 0. Loads 3 1 0 2; device 0 has 4 rows, device 1 has 2.
  const plan = planOf(4, [[0, 1], [0], [0, 3], [3]]);
  const costs = { permutationSecondsPerRow: 0.5, transferSecondsPerRow: 0.25, transferSecondsPerPeer: 2 };

  it('adds the terms that are named', () => {
    const model = createLatencyModel({
      experts: 4,
      placement: { devices: 2, hostOf: null },
      times: { rows: [1, 3], seconds: [10, 20] },
      fixedSeconds: 7,
      ...costs,
    });
    // Experts: device 0 has 20 (three rows) + 10 (one), device 1 has 15 (two rows). Own pairs 3 and 3, arriving 4 and 2.
    // Device 0 sends nothing and receives one row; the other way round for device 1.
    expect(model.layerTime(plan)).toEqual({
      fixed: 7,
      permutation: 2 * 0.5 * (3 + 4),
      transfer: 2 * (1 * 0.25 + 1 * 2),
      experts: 30,
      seconds: 7 + 7 + 4.5 + 30,
      slowest: 0,
      devices: [
        { rows: 4, sent: 0, received: 1, seconds: 30 },
        { rows: 2, sent: 1, received: 0, seconds: 15 },
      ],
    });
  });

  it('follows a placement of experts and of tokens, and a table for each expert', () => {
    const slow = { rows: [1], seconds: [100] };
    const model = createLatencyModel({
      experts: 4,
      placement: { devices: 2, hostOf: [1, 0, 0, 1] },
      times: [linear, linear, linear, slow],
    });
    const time = model.layerTime(plan, Int32Array.of(1, 1, 1, 1));
    expect(time).toMatchObject({ experts: 203, slowest: 1, permutation: 0, transfer: 0, fixed: 0 });
    expect(time.devices).toEqual([
      { rows: 1, sent: 0, received: 1, seconds: 1 },
      { rows: 5, sent: 1, received: 0, seconds: 203 },
    ]);
  });

  it('of a plan without pairs is what does not depend on it', () => {
    const empty = planOf(4, [[], []]);
    const model = createLatencyModel({
      experts: 4,
      placement: { devices: 2, hostOf: null },
      times: linear,
      fixedSeconds: 3,
      ...costs,
    });
    expect(model.layerTime(empty)).toMatchObject({ seconds: 3, experts: 0, transfer: 0, permutation: 0 });
  });

  it('tells every fault at once: placement, costs, tables', () => {
    expect(() =>
      createLatencyModel({
        experts: 4,
        placement: { devices: 2, hostOf: [0, 1, 2] },
        times: [linear, { rows: [2, 1], seconds: [1, 1] }],
        fixedSeconds: -1,
        transferSecondsPerRow: NaN,
      }),
    ).toThrow(
      'latency model: must be a valid configuration, got 6 faults:\n' +
        '  placement.hostOf: must cover experts 4, got 3 entries (list a device for each)\n' +
        '  placement.hostOf[2]: must be in 0…1, got 2 (number devices from 0)\n' +
        '  transferSecondsPerRow: must be finite and at least 0, got NaN (measure it, or leave it out)\n' +
        '  fixedSeconds: must be finite and at least 0, got -1 (measure it, or leave it out)\n' +
        '  times: must cover experts 4, got 2 tables (give one, or one for each)\n' +
        '  times[1].rows[1]: must be above the entry before, 2, got 1',
    );
    const whole = { experts: 3, times: linear };
    expect(() => createLatencyModel({ ...whole, placement: { devices: 2, hostOf: null } })).toThrow(
      'placement.devices: must divide experts 3, got 2 (give hostOf)',
    );
    expect(() => createLatencyModel({ ...whole, placement: { devices: 0, hostOf: null } })).toThrow(
      'placement.devices: must be an integer of at least 1, got 0 (count the devices)',
    );
    expect(() =>
      createLatencyModel({ times: linear, experts: 0, placement: { devices: 1, hostOf: null } }),
    ).toThrow('experts: must be an integer of at least 1, got 0 (count the experts of the layer)');
  });

  it('refuses a plan of another layer and tokens of devices that do not exist', () => {
    const model = createLatencyModel({ experts: 3, placement: { devices: 3, hostOf: null }, times: linear });
    expect(() => model.layerTime(plan)).toThrow(
      'layer time: plan must have 3 experts, got 4 (make a latency model for each size of layer)',
    );
    const own = planOf(3, [[0], [1]]);
    expect(() => model.layerTime(own, Int32Array.of(0))).toThrow(
      'layer time: deviceOf must have an entry for each of 2 tokens, got 1 (pass [T])',
    );
    expect(() => model.layerTime(own, Int32Array.of(0, 3))).toThrow(
      'layer time: deviceOf[1] must be in 0…2, got 3 (number devices as placement does)',
    );
  });
});

/** Twelve experts, any loads; every list of devices divides them. */
const plans = fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 11 }), { maxLength: 4 }), {
  minLength: 1,
  maxLength: 24,
});
const deviceCounts = fc.constantFrom(1, 2, 3, 4, 6, 12);
const costs = fc.record({
  permutationSecondsPerRow: fc.constantFrom(0, 0.5, 2),
  transferSecondsPerRow: fc.constantFrom(0, 0.25, 3),
  transferSecondsPerPeer: fc.constantFrom(0, 1),
  fixedSeconds: fc.constantFrom(0, 5),
});
const tables = fc.constantFrom(
  linear,
  { rows: [1, 4, 9], seconds: [2, 3, 8] },
  { rows: [2], seconds: [0.5] },
);

describe('for every plan', () => {
  it('one more pair makes no term shorter', () => {
    fc.assert(
      fc.property(plans, deviceCounts, tables, costs, fc.nat(), (lists, devices, times, prices, at) => {
        const options = { experts: 12, placement: { devices, hostOf: null }, times, ...prices };
        const model = createLatencyModel(options);
        const token = at % lists.length;
        const added = Array.from({ length: 12 }, (_, e) => e).find((e) => !lists[token]?.includes(e)) ?? 0;
        const more = lists.map((list, t) => (t === token ? [...list, added] : list));
        const [before, after] = [model.layerTime(planOf(12, lists)), model.layerTime(planOf(12, more))];
        for (const term of ['seconds', 'permutation', 'transfer', 'experts'] as const) {
          expect(after[term]).toBeGreaterThanOrEqual(before[term] - 1e-12);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('rows are neither lost nor made: what is sent is received, what arrives is what there is', () => {
    fc.assert(
      fc.property(plans, deviceCounts, (lists, devices) => {
        const model = createLatencyModel({
          experts: 12,
          placement: { devices, hostOf: null },
          times: linear,
        });
        const time = model.layerTime(planOf(12, lists));
        const sum = (of: (device: (typeof time.devices)[number]) => number): number =>
          time.devices.reduce((total, device) => total + of(device), 0);
        expect(sum(({ sent }) => sent)).toBe(sum(({ received }) => received));
        expect(sum(({ rows }) => rows)).toBe(lists.flat().length);
        expect(time.seconds).toBe(Math.max(...time.devices.map(({ rows }) => rows)));
      }),
      { numRuns: 1000 },
    );
  });

  it('largest device load before over after bounds what a cap can gain, a fixed cost for each expert included', () => {
    fc.assert(
      fc.property(
        plans,
        deviceCounts,
        gammas(),
        fc.constantFrom(0, 1, 7),
        (lists, devices, gamma, launch) => {
          // Every expert has a token, so that the fixed cost is the same on all devices, before and after.
          const every = Array.from({ length: 12 }, (_, e) => [e]);
          const plan = planOf(12, [...every, ...lists]);
          const times = { rows: [1, 1000], seconds: [launch + 1, launch + 1000] };
          const model = createLatencyModel({ experts: 12, placement: { devices, hostOf: null }, times });
          const [before, after] = [model.layerTime(plan), model.layerTime(capped(plan, gamma))];
          const busiest = ({ devices: all }: typeof before): number =>
            Math.max(...all.map(({ rows }) => rows));
          expect(before.experts / after.experts).toBeLessThanOrEqual(busiest(before) / busiest(after) + 1e-9);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('A8: sharing a device hides the straggler, so no placement gains more than one expert on each device', () => {
    fc.assert(
      fc.property(plans, deviceCounts, gammas(), (lists, devices, gamma) => {
        const plan = planOf(12, [[0], ...lists]);
        const speedUp = (count: number): number => {
          const model = createLatencyModel({
            experts: 12,
            placement: { devices: count, hostOf: null },
            times: linear,
          });
          return model.layerTime(plan).seconds / model.layerTime(capped(plan, gamma)).seconds;
        };
        expect(speedUp(devices)).toBeLessThanOrEqual(speedUp(12) + 1e-9);
      }),
      { numRuns: 1000 },
    );
  });
});

function gammas(): fc.Arbitrary<number> {
  return fc.constantFrom(0.5, 0.75, 1, 1.25, 1.5, 2);
}

function capped(plan: DispatchPlan, gamma: number): DispatchPlan {
  const scores = new Float32Array(plan.tokens * plan.experts).fill(1 / plan.experts);
  return capacityPolicy(parseCapacityConfig({ method: 'drop', gamma })).plan({ scores, primary: plan });
}

describe('with planCapacity', () => {
  it('tells what a cap gains on a skewed batch: the golden example of the specification', () => {
    const scores = Float32Array.from(
      [
        [0.45, 0.05, 0.1, 0.4, 0.2, 0.15, 0.5, 0.15, 0.05, 0.55, 0.15, 0.25, 0.4, 0.08, 0.07, 0.45],
        [0.5, 0.15, 0.05, 0.3, 0.05, 0.38, 0.15, 0.42, 0.22, 0.48, 0.2, 0.1, 0.46, 0.04, 0.08, 0.42],
      ].flat(),
    );
    const secondsAt = (gamma: number): number => {
      const placement = { devices: 2 };
      const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma, scope: 'rank', placement }));
      const plan = planCapacity(scores, { experts: 4, topK: 2, policy });
      const model = createLatencyModel({
        experts: 4,
        placement: { devices: 2, hostOf: null },
        times: linear,
      });
      return model.layerTime(plan).seconds;
    };
    expect(secondsAt(Infinity)).toBe(9); // loads 6 3 | 1 6
    expect(secondsAt(1)).toBe(7); // loads 4 3 | 1 4
  });
});
