/**
 * @file The curves of a run, read from its metrics file.
 *
 * The file may be of a run that is still going on or was killed: whatever is not a whole record is counted and left out.
 */

/** One measurement. */
export interface CurvePoint {
  readonly step: number;
  /** Tokens trained on by then. */
  readonly tokens: number;
  readonly value: number;
}

/** Use of the experts of one layer over a run. */
export interface LayerCurves {
  readonly layer: number;
  /** Largest load over mean load: 1 is even use. */
  readonly imbalance: readonly CurvePoint[];
  /** Entropy of the loads over its maximum: 1 is even use. */
  readonly entropy: readonly CurvePoint[];
}

/** What a metrics file says, by subject; steps ascend. */
export interface RunCurves {
  /** What the picture calls it. */
  readonly name: string;
  /** Mean cross-entropy of each step, nats. */
  readonly loss: readonly CurvePoint[];
  /** Held-out bits per byte. */
  readonly bitsPerByte: readonly CurvePoint[];
  readonly tokensPerSecond: readonly CurvePoint[];
  /** Share of the machine's matmul rate that the model's operations reached, 0 to 1. */
  readonly mfu: readonly CurvePoint[];
  readonly learningRate: readonly CurvePoint[];
  readonly gradientNorm: readonly CurvePoint[];
  /** Sparse layers, first to last. */
  readonly layers: readonly LayerCurves[];
  /** What simple methods reach on the same held-out text, bits per byte. */
  readonly baselines: { readonly [name: string]: number };
  /** Lines that are no record: half written, or not metrics at all. */
  readonly skippedLines: number;
}

type Fields = { readonly [name: string]: unknown };

/** More layers than any model has: a hostile file cannot make us draw without end. */
const maximumLayers = 1024;

/**
 * Reads the text of a metrics file. Of several records of one step the last one counts.
 *
 * @param text - JSON Lines
 * @param name - what the picture calls the run
 * @example
 * ```ts
 * const curves = parseRunCurves('{"step":1,"train/loss":7.5,"train/tokens":1024}\n', 'first');
 * console.log(curves.loss[0]?.value); // 7.5
 * ```
 */
export function parseRunCurves(text: string, name: string): RunCurves {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const records = lines.map(parseRecord).filter((record) => record !== undefined);
  records.sort((a, b) => a.step - b.step);
  const tokens = tokensByRecord(records);
  const curve = (read: (fields: Fields) => unknown): CurvePoint[] => collect(records, tokens, read);
  const named = (key: string): CurvePoint[] => curve((fields) => fields[key]);
  return {
    name,
    loss: named('train/loss'),
    bitsPerByte: named('eval/bits_per_byte'),
    tokensPerSecond: named('train/tokens_per_second'),
    mfu: named('train/mfu'),
    learningRate: named('train/learning_rate'),
    gradientNorm: named('train/gradient_norm'),
    layers: layersOf(records).map((layer) => ({
      layer,
      imbalance: curve((fields) => layerField(fields, layer, 'imbalance')),
      entropy: curve((fields) => layerField(fields, layer, 'entropy')),
    })),
    baselines: baselinesOf(records),
    skippedLines: lines.length - records.length,
  };
}

interface StepRecord {
  readonly step: number;
  readonly fields: Fields;
}

function parseRecord(line: string): StepRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isFields(value)) return undefined;
  const { step } = value;
  return Number.isSafeInteger(step) && (step as number) >= 0
    ? { step: step as number, fields: value }
    : undefined;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An evaluation does not say how many tokens were trained on: the step before it does. */
function tokensByRecord(records: readonly StepRecord[]): number[] {
  let newest = 0;
  return records.map(({ fields }) => {
    const tokens = fields['train/tokens'];
    if (isFinite(tokens) && tokens >= newest) newest = tokens;
    return newest;
  });
}

function isFinite(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function collect(
  records: readonly StepRecord[],
  tokens: readonly number[],
  read: (fields: Fields) => unknown,
): CurvePoint[] {
  const points: CurvePoint[] = [];
  records.forEach(({ step, fields }, at) => {
    const value = read(fields);
    if (!isFinite(value)) return;
    if (points.at(-1)?.step === step) points.pop();
    points.push({ step, tokens: tokens[at] ?? 0, value });
  });
  return points;
}

function layerRows(fields: Fields): readonly Fields[] {
  const rows = fields['routing/layers'];
  return Array.isArray(rows) ? rows.slice(0, maximumLayers).filter(isFields) : [];
}

function layersOf(records: readonly StepRecord[]): number[] {
  const layers = new Set<number>();
  for (const { fields } of records) {
    for (const { layer } of layerRows(fields)) {
      if (Number.isSafeInteger(layer) && layers.size < maximumLayers) layers.add(layer as number);
    }
  }
  return [...layers].toSorted((a, b) => a - b);
}

function layerField(fields: Fields, layer: number, key: string): unknown {
  return layerRows(fields).find((row) => row['layer'] === layer)?.[key];
}

function baselinesOf(records: readonly StepRecord[]): { [name: string]: number } {
  const found = records.findLast(({ fields }) => isFields(fields['eval/baselines']));
  const baselines = Object.entries((found?.fields['eval/baselines'] ?? {}) as Fields);
  return Object.fromEntries(baselines.filter((entry): entry is [string, number] => isFinite(entry[1])));
}
