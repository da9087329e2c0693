import { isMoebiusError } from '@moebius/core';
import { countTensors, createEngine, disposeTree, readHostSync, tensor2d } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { parseGateConfig, planTopK, topKRouter, withCapacity } from '../../src/index.ts';
import {
  createRouteRecorder,
  recordRoutes,
  replayRoutes,
  traceFromLines,
  traceToLines,
} from '../../src/metrics/index.ts';
import { describeRouter } from '../../src/testing/index.ts';
import { traces } from './traces.ts';

beforeAll(async () => {
  await createEngine();
});

const messageOf = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return isMoebiusError(error) ? `${error.code}: ${error.message}` : String(error);
  }
  return 'nothing thrown';
};

const plan = planTopK(Int32Array.of(0, 1, 1, 0), { tokens: 2, experts: 3, topK: 2 });
const weights = Float32Array.of(0.6, 0.3, 0.4, 0.7);

function smallTrace(): ReturnType<ReturnType<typeof createRouteRecorder>['trace']> {
  const recorder = createRouteRecorder({ about: { model: 'tiny' } });
  recorder.record({
    layer: 0,
    plan,
    weights,
    step: 4,
    phase: 'prefill',
    sequences: 1,
    ids: Int32Array.of(7, 9),
  });
  recorder.record({ layer: 2, plan, weights: null, step: 4 });
  return recorder.trace();
}

describe('a route recorder', () => {
  it('begins a pass when a layer comes again or the step changes, and copies what may change', () => {
    const recorder = createRouteRecorder();
    const own = weights.slice();
    recorder.record({ layer: 0, plan, weights: own });
    recorder.record({ layer: 1, plan, weights: own });
    const before = recorder.trace();
    recorder.record({ layer: 0, plan, weights: own });
    recorder.record({ layer: 1, plan, weights: own, step: 9 });
    own.fill(0);
    const { passes } = recorder.trace();
    expect(passes.map(({ step, layers }) => [step, layers.map(({ layer }) => layer)])).toEqual([
      [0, [0, 1]],
      [1, [0]],
      [9, [1]],
    ]);
    expect(passes[0]?.layers[0]?.weights).toEqual(weights);
    expect(before.passes).toHaveLength(1);
  });

  it('refuses more pairs than it may hold', () => {
    const recorder = createRouteRecorder({ maximumPairs: 7 });
    recorder.record({ layer: 0, plan, weights: null });
    expect(messageOf(() => recorder.record({ layer: 1, plan, weights: null }))).toBe(
      'limit: route trace: must hold at most 7 pairs, got 8 (record fewer passes or layers, or raise maximumPairs)',
    );
  });
});

describe('a trace file', () => {
  it('gives back every trace: reading what was written changes nothing', () => {
    fc.assert(
      fc.property(traces, (trace) => {
        expect(traceFromLines(traceToLines(trace))).toEqual(trace);
      }),
      { numRuns: 300 },
    );
  });

  it('reads as it is documented', () => {
    expect([...traceToLines(smallTrace())]).toEqual([
      '{"format":"moebius-route-trace","schemaVersion":1,"about":{"model":"tiny"}}',
      '{"step":4,"phase":"prefill","sequences":1,"ids":[7,9]}',
      '{"layer":0,"plan":{"schemaVersion":1,"tokens":2,"experts":3,"offsets":[0,2,4,4],"token":[0,1,0,1],"tokenOffsets":[0,2,4],"slot":[0,2,3,1]},"weights":[0.600000024,0.300000012,0.400000006,0.699999988]}',
      '{"layer":2,"plan":{"schemaVersion":1,"tokens":2,"experts":3,"offsets":[0,2,4,4],"token":[0,1,0,1],"tokenOffsets":[0,2,4],"slot":[0,2,3,1]},"weights":null}',
      '{"end":true,"passes":1,"layers":2}',
    ]);
  });

  const lines = [...traceToLines(smallTrace())];
  const edited = (at: number, from: string, to: string): string[] =>
    lines.with(at, (lines[at] ?? '').replace(from, to));
  const remedy = '(write traces with traceToLines)';
  it.each([
    [
      'nothing',
      [],
      'format: trace: must end with its last line, got 0 lines without it (the file was cut off: record it again)',
    ],
    [
      'a cut file',
      lines.slice(0, 4),
      'format: trace: must end with its last line, got 4 lines without it (the file was cut off: record it again)',
    ],
    [
      'a line more',
      [...lines, '{}'],
      `format: trace line 6: must be the last line of its file, got one more after the end ${remedy}`,
    ],
    ['an array', ['[1]'], `format: trace line 1: must be an object, got an array ${remedy}`],
    ['null', ['null'], `format: trace line 1: must be an object, got null ${remedy}`],
    [
      'another format',
      edited(0, 'moebius-route-trace', 'other'),
      /^format: trace line 1: header: must be a valid configuration, got 1 fault: [^\n]*format: must be/,
    ],
    [
      'a newer version',
      edited(0, '"schemaVersion":1', '"schemaVersion":2'),
      /^format: trace line 1: header: must be a valid configuration, got 1 fault: [^\n]*schemaVersion/,
    ],
    [
      'an unknown key',
      edited(1, '"step"', '"stop":1,"step"'),
      /^format: trace line 2: pass: must be a valid configuration, got 1 fault: [^\n]*stop/,
    ],
    [
      'a negative step',
      edited(1, '"step":4', '"step":-4'),
      /^format: trace line 2: pass: must be a valid configuration, got 1 fault: [^\n]*step: must be/,
    ],
    [
      'ids that are no integers',
      edited(1, '[7,9]', '[7,9.5]'),
      /^format: trace line 2: pass: must be a valid configuration, got 1 fault: [^\n]*ids\[1\]/,
    ],
    [
      'another number of ids',
      edited(1, '[7,9]', '[7]'),
      `format: trace line 3: must have a plan of 1 tokens, as the pass has ids, got 2 ${remedy}`,
    ],
    [
      'a layer before a pass',
      lines.toSpliced(1, 1),
      `format: trace line 2: must follow a pass, got a layer before the first ${remedy}`,
    ],
    [
      'a layer twice',
      edited(3, '"layer":2', '"layer":0'),
      `format: trace line 4: must list a layer once, got layer 0 again ${remedy}`,
    ],
    [
      'too few weights',
      edited(2, '0.600000024,', ''),
      `format: trace line 3: must have 4 weights, one a pair, got 3 ${remedy}`,
    ],
    [
      'weights that are no numbers',
      edited(2, '0.600000024', '"x"'),
      /^format: trace line 3: layer: must be a valid configuration, got 1 fault: [^\n]*weights\[0\]/,
    ],
    [
      'a plan that contradicts itself',
      edited(2, '"slot":[0,2', '"slot":[0,0'),
      /^format: trace line 3: plan\.slot/,
    ],
    [
      'a plan with a repeated pair',
      edited(2, '"token":[0,1', '"token":[0,0'),
      /^format: trace line 3: plan\.token/,
    ],
    [
      'no plan',
      edited(2, '"plan"', '"plam"'),
      /^format: trace line 3: layer: must be a valid configuration, got 2 faults: plan: [^\n]*plam/,
    ],
    [
      'a wrong count',
      edited(4, '"layers":2', '"layers":3'),
      `format: trace line 5: must count 1 passes and 2 layers, got 1 and 3 ${remedy}`,
    ],
  ])('refuses %s', (_, given, message) => {
    const got = messageOf(() => traceFromLines(given));
    if (typeof message === 'string') expect(got).toBe(message);
    else expect(got).toMatch(message);
  });

  it('keeps to its limits', () => {
    const limited = (limits: Parameters<typeof traceFromLines>[1]): string =>
      messageOf(() => traceFromLines(lines, limits));
    const remedyOfLimits = '(record less, or raise the limit if you trust the file)';
    expect(limited({ lines: 4 })).toBe(`limit: trace lines: must be at most 4, got 5 ${remedyOfLimits}`);
    expect(limited({ lineLength: 80 })).toBe(
      `limit: trace lineLength: must be at most 80, got ${lines[2]?.length} ${remedyOfLimits}`,
    );
    expect(limited({ pairs: 7 })).toBe(`limit: trace pairs: must be at most 7, got 8 ${remedyOfLimits}`);
    expect(limited({ aboutEntries: 0 })).toBe(
      `limit: trace aboutEntries: must be at most 0, got 1 ${remedyOfLimits}`,
    );
  });

  it('never throws anything but errors of ours, whatever one character becomes', () => {
    const text = lines.join('\n');
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.string({ minLength: 1, maxLength: 1 }), (at, character) => {
        const broken = text.slice(0, at) + character + text.slice(at + 1);
        expect(messageOf(() => traceFromLines(broken.split('\n')))).toMatch(
          /^(nothing thrown|format: |limit: )/,
        );
      }),
      { numRuns: 500 },
    );
  });
});

describe('recording and replaying', () => {
  const gate = parseGateConfig({ experts: 6, topK: 2, renormalise: true });
  const wave = (rows: number, columns: number, phase: number): number[][] =>
    Array.from({ length: rows }, (_, i) =>
      Array.from({ length: columns }, (__, j) => Math.sin(3 * i * i + 5 * j + phase)),
    );

  it('a recorded router routes as before and its trace has what it sent', () => {
    const recorder = createRouteRecorder();
    const [plain, watched] = [topKRouter(gate), recordRoutes(topKRouter(gate), recorder)];
    const x = tensor2d(wave(5, 4, 0));
    const parameters = { weight: tensor2d(wave(6, 4, 1)) };
    const options = { layer: 3, step: 8, ids: Int32Array.of(1, 2, 3, 4, 5), sequences: 1 };
    const outputs = [plain, watched].map((router) => router.forward(x, parameters, options));
    const [route, same] = outputs.map((output) => output.route);
    if (route?.kind !== 'pairs' || same?.kind !== 'pairs') throw new Error('pairs');
    expect(same.plan).toEqual(route.plan);
    const [pass] = recorder.trace().passes;
    expect(pass).toEqual({
      step: 8,
      sequences: 1,
      ids: options.ids,
      layers: [{ layer: 3, plan: route.plan, weights: Float32Array.from(readHostSync(route.weights)) }],
    });
    expect(watched.gate).toBeUndefined();
    disposeTree([x, parameters, outputs]);
  });

  it('a replayed router gives the recorded choices with weights of its own scores', () => {
    const recorder = createRouteRecorder();
    const x = tensor2d(wave(5, 4, 0));
    const [first, second] = [1, 2].map((phase) => ({ weight: tensor2d(wave(6, 4, phase)) }));
    const options = { layer: 3, step: 8 };
    const recorded = recordRoutes(topKRouter(gate), recorder).forward(x, first!, options);
    const replayed = withCapacity(topKRouter(gate), replayRoutes(recorder.trace()));
    const before = countTensors();
    const outputs = [
      replayed.forward(x, first!, options),
      replayed.forward(x, second!, options),
      topKRouter(gate).forward(x, second!, options),
    ];
    const [again, moved, own] = outputs.map(({ route }) => route);
    if (
      recorded.route.kind !== 'pairs' ||
      again?.kind !== 'pairs' ||
      moved?.kind !== 'pairs' ||
      own?.kind !== 'pairs'
    )
      throw new Error('pairs');
    expect(again.plan.source).toEqual(recorded.route.plan.source);
    const [replayedWeights, recordedWeights] = [again, recorded.route].map((route) => [
      ...readHostSync(route.weights),
    ]);
    for (const [i, weight] of replayedWeights!.entries()) expect(weight).toBeCloseTo(recordedWeights![i]!, 6);
    expect(moved.plan.source).toEqual(recorded.route.plan.source);
    expect(own.plan.source).not.toEqual(recorded.route.plan.source);
    disposeTree(outputs);
    expect(countTensors()).toBe(before);
    disposeTree([x, first, second, recorded]);
  });

  it('a replay says what it lacks', () => {
    const trace = smallTrace();
    const twice = { ...trace, passes: [...trace.passes, ...trace.passes] };
    expect(messageOf(() => replayRoutes(twice))).toBe(
      'configuration: trace: steps must differ to be replayed, got step 4 twice for layer 0 (record with a step for each pass)',
    );
    const policy = replayRoutes(trace);
    const scores = new Float32Array(6).fill(0.3);
    expect(messageOf(() => policy.plan({ scores, primary: plan, layer: 1, step: 4 }))).toBe(
      'data: layers[1] replay: must have been recorded, got step 4 of layer 1 (replay the steps and layers of the trace)',
    );
    const other = planTopK(Int32Array.of(0, 1), { tokens: 1, experts: 3, topK: 2 });
    expect(
      messageOf(() => policy.plan({ scores: scores.subarray(3), primary: other, layer: 0, step: 4 })),
    ).toBe(
      'data: layers[0] replay: the recorded plan must be of 1 tokens and 3 experts, got 2 and 3 (replay the same batches)',
    );
  });

  it('only pairs can be recorded', () => {
    const soft = { ...topKRouter(gate), route: 'slots' as const };
    expect(messageOf(() => recordRoutes(soft, createRouteRecorder()))).toBe(
      'configuration: recordRoutes: router "top-k" must give routes of kind pairs, got slots (slots and merges have no plan)',
    );
  });
});

describeRouter(recordRoutes(topKRouter(parseGateConfig({ experts: 6, topK: 2 })), createRouteRecorder()), {
  describe,
  it,
  title: 'top-k, recorded',
});
