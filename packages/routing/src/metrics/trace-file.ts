/**
 * @file Traces as JSON Lines: a header, then for each pass one line of its own and one a layer, then a last line that proves
 * the file is whole.
 *
 * ```
 * {"format":"moebius-route-trace","schemaVersion":1,"about":{"model":"study"}}
 * {"step":0,"phase":"prefill","sequences":1,"ids":[5,17,3]}
 * {"layer":2,"plan":{"schemaVersion":1,"tokens":3,…},"weights":[0.6,0.4,…]}
 * {"end":true,"passes":1,"layers":1}
 * ```
 *
 * Letters: `T` tokens, `N` routed pairs.
 */
import { MoebiusError, isMoebiusError, parseConfig, schemaVersion, z } from '@moebius/core';

import { planFromJson, planToJson } from '../dispatch-plan.ts';
import type { LayerTrace, RouteTrace, TracePass } from './route-trace.ts';
import { traceLimits } from './trace-limits.ts';

const formatName = 'moebius-route-trace';
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER);

const headerSchema = z.strictObject({
  format: z.literal(formatName),
  schemaVersion: schemaVersion(1),
  about: z.record(z.string().max(traceLimits.aboutLength), z.string().max(traceLimits.aboutLength)),
});

const passSchema = z.strictObject({
  step: count,
  phase: z.enum(['train', 'evaluate', 'prefill', 'decode']).optional(),
  sequences: count.min(1).optional(),
  ids: z.array(z.int().min(-0x8000_0000).max(0x7fff_ffff)).optional(),
});

const layerSchema = z.strictObject({
  layer: count,
  plan: z.unknown(),
  weights: z.array(z.number()).nullable(),
});

const endSchema = z.strictObject({ end: z.literal(true), passes: count, layers: count });

/**
 * Writes a trace, a line at a time: nothing larger than one layer is held.
 *
 * @param trace - only read
 * @returns lines without line ends
 */
export function* traceToLines(trace: RouteTrace): Generator<string, void, void> {
  yield JSON.stringify({ format: formatName, schemaVersion: 1, about: trace.about });
  let layers = 0;
  for (const pass of trace.passes) {
    const { layers: entries, ids, ...facts } = pass;
    yield JSON.stringify({ ...facts, ...(ids === undefined ? {} : { ids: [...ids] }) });
    for (const entry of entries) yield JSON.stringify(layerToJson(entry));
    layers += entries.length;
  }
  yield JSON.stringify({ end: true, passes: trace.passes.length, layers });
}

function layerToJson({ layer, plan, weights }: LayerTrace): object {
  return {
    layer,
    plan: planToJson(plan),
    // Nine digits are enough to find every float32 again.
    weights: weights === null ? null : Array.from(weights, (weight) => Number(weight.toPrecision(9))),
  };
}

/** What {@link readTrace} reads; default {@link traceLimits}. */
export type TraceLimits = typeof traceLimits;

/** Takes the lines of a trace file one by one. */
export interface TraceReader {
  /**
   * The next line; empty ones are skipped.
   *
   * @throws `format` naming the line and what is wrong with it, `limit` when it is too much
   */
  add(line: string): void;
  /**
   * The trace, when all lines were added.
   *
   * @throws `format` when the file ends early
   */
  finish(): RouteTrace;
}

/**
 * Reads a trace as hostile input: every line is checked, every plan passes `assertPlan`, limits are named.
 *
 * @param lines - with or without line ends
 * @param limits - lower or higher ones
 * @returns the trace; caller owns
 * @throws `format` naming the line, `limit` when it is too much
 * @example
 * ```ts
 * const trace = createRouteRecorder({ about: { model: 'study' } }).trace();
 * const again = traceFromLines(traceToLines(trace));
 * ```
 */
export function traceFromLines(lines: Iterable<string>, limits: Partial<TraceLimits> = {}): RouteTrace {
  const reader = readTrace(limits);
  for (const line of lines) reader.add(line);
  return reader.finish();
}

interface ReaderState {
  about: { readonly [name: string]: string } | null;
  readonly passes: (TracePass & { readonly layers: LayerTrace[] })[];
  pairs: number;
  layers: number;
  ended: boolean;
}

/**
 * A reader for lines that arrive one by one, as from a file of any length.
 *
 * @param limits - lower or higher ones
 */
export function readTrace(limits: Partial<TraceLimits> = {}): TraceReader {
  const bounds = { ...traceLimits, ...limits };
  const state: ReaderState = { about: null, passes: [], pairs: 0, layers: 0, ended: false };
  let number = 0;
  return {
    add(line) {
      number += 1;
      assertLimit('lines', number, bounds.lines);
      assertLimit('lineLength', line.length, bounds.lineLength);
      if (line.trim() === '') return;
      inLine(number, () => addLine(parseLine(line), state, bounds));
    },
    finish() {
      if (!state.ended) {
        throw new MoebiusError({
          code: 'format',
          message: `trace: must end with its last line, got ${number} lines without it (the file was cut off: record it again)`,
          details: { lines: number },
        });
      }
      return { about: state.about ?? {}, passes: state.passes };
    },
  };
}

function addLine(value: object, state: ReaderState, limits: TraceLimits): void {
  if (state.ended) throw fault('must be the last line of its file', 'one more after the end');
  if (state.about === null) {
    const { about } = parseConfig(headerSchema, value, 'header');
    assertLimit('aboutEntries', Object.keys(about).length, limits.aboutEntries);
    state.about = about;
  } else if ('end' in value) endTrace(parseConfig(endSchema, value, 'end'), state);
  else if ('layer' in value) addLayer(value, state, limits);
  else {
    const { ids, step, phase, sequences } = parseConfig(passSchema, value, 'pass');
    state.passes.push({
      step,
      ...(phase === undefined ? {} : { phase }),
      ...(sequences === undefined ? {} : { sequences }),
      ...(ids === undefined ? {} : { ids: Int32Array.from(ids) }),
      layers: [],
    });
  }
}

function addLayer(value: object, state: ReaderState, limits: TraceLimits): void {
  const pass = state.passes.at(-1);
  if (pass === undefined) throw fault('must follow a pass', 'a layer before the first');
  const { layer, plan: json, weights } = parseConfig(layerSchema, value, 'layer');
  const plan = planFromJson(json);
  state.pairs += plan.token.length;
  assertLimit('pairs', state.pairs, limits.pairs);
  if (weights !== null && weights.length !== plan.token.length) {
    throw fault(`must have ${plan.token.length} weights, one a pair`, String(weights.length));
  }
  if (pass.ids !== undefined && pass.ids.length !== plan.tokens) {
    throw fault(`must have a plan of ${pass.ids.length} tokens, as the pass has ids`, String(plan.tokens));
  }
  if (pass.layers.some((entry) => entry.layer === layer))
    throw fault('must list a layer once', `layer ${layer} again`);
  pass.layers.push({ layer, plan, weights: weights === null ? null : Float32Array.from(weights) });
  state.layers += 1;
}

function endTrace(end: { passes: number; layers: number }, state: ReaderState): void {
  if (end.passes !== state.passes.length || end.layers !== state.layers) {
    throw fault(
      `must count ${state.passes.length} passes and ${state.layers} layers`,
      `${end.passes} and ${end.layers}`,
    );
  }
  state.ended = true;
}

function parseLine(line: string): object {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw fault('must be JSON', cause instanceof Error ? cause.message : String(cause));
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw fault('must be an object', Array.isArray(value) ? 'an array' : String(value));
}

function fault(expectation: string, got: string): MoebiusError {
  return new MoebiusError({ code: 'format', message: `${expectation}, got ${got}` });
}

/** Runs the reading of one line; what it throws names the line. */
function inLine(number: number, read: () => void): void {
  try {
    read();
  } catch (error) {
    if (!isMoebiusError(error) || error.code === 'limit') throw error;
    throw new MoebiusError({
      code: 'format',
      message: `trace line ${number}: ${error.message.replaceAll(/\s*\n\s*/g, ' ')} (write traces with traceToLines)`,
      details: { line: number },
      cause: error,
    });
  }
}

function assertLimit(name: keyof TraceLimits, got: number, limit: number): void {
  if (got <= limit) return;
  throw new MoebiusError({
    code: 'limit',
    message: `trace ${name}: must be at most ${limit}, got ${got} (record less, or raise the limit if you trust the file)`,
    details: { name, limit, got },
  });
}
