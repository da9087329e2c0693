/**
 * @file TensorBoard's events as bytes. The messages, with their field numbers:
 *
 * ```
 * Event        wall_time=1 double · step=2 int64 · one of { file_version=3 string · summary=5 Summary · session_log=7 SessionLog }
 * Summary      value=1 repeated Value
 * Value        tag=1 string · one of { simple_value=2 float · histo=5 HistogramProto · tensor=8 TensorProto } · metadata=9
 * Histogram    min=1 · max=2 · num=3 · sum=4 · sum_squares=5 · bucket_limit=6 repeated · bucket=7 repeated, all double
 * Metadata     plugin_data=1 { plugin_name=1 string } · data_class=4 enum
 * Tensor       dtype=1 enum · tensor_shape=2 { dim=2 repeated { size=1 int64 } } · string_val=8 repeated bytes
 * SessionLog   status=1 enum
 * ```
 */
import {
  bytesField,
  doubleField,
  doublesField,
  floatField,
  integerField,
  joinFields,
  stringField,
} from './protobuf.ts';
import type { FieldBytes } from './protobuf.ts';

/** What an event says. */
export type EventContent =
  | { readonly kind: 'version' }
  | { readonly kind: 'session-start' }
  | { readonly kind: 'summary'; readonly values: readonly SummaryValue[] };

/** One value of a summary. */
export type SummaryValue =
  | { readonly tag: string; readonly kind: 'scalar'; readonly value: number }
  | { readonly tag: string; readonly kind: 'text'; readonly text: string }
  | { readonly tag: string; readonly kind: 'counts'; readonly counts: readonly number[] };

/** When an event was. */
export interface EventTime {
  /** Seconds since 1970. */
  readonly wallTime: number;
  readonly step: number;
}

/** The version of the format; readers want it first in every file. */
const fileVersion = 'brain.Event:2';
const sessionStart = 1;
const dataClassTensor = 2;
const dtypeString = 7;

/** An event as bytes, without the frame of a record. */
export function encodeEvent({ wallTime, step }: EventTime, content: EventContent): Uint8Array {
  // A field that has its default is not written, as in Google's library.
  const steps = step === 0 ? [] : [integerField(2, step)];
  return joinFields([doubleField(1, wallTime), ...steps, encodeContent(content)]);
}

function encodeContent(content: EventContent): FieldBytes {
  switch (content.kind) {
    case 'version':
      return stringField(3, fileVersion);
    case 'session-start':
      return bytesField(7, integerField(1, sessionStart));
    case 'summary':
      return bytesField(5, joinFields(content.values.map((value) => bytesField(1, encodeValue(value)))));
  }
}

function encodeValue(value: SummaryValue): FieldBytes {
  const tag = stringField(1, value.tag);
  switch (value.kind) {
    case 'scalar':
      return joinFields([tag, floatField(2, value.value)]);
    case 'counts':
      return joinFields([tag, bytesField(5, encodeCounts(value.counts))]);
    case 'text': {
      const plugin = bytesField(1, stringField(1, 'text'));
      return joinFields([
        tag,
        bytesField(8, encodeText(value.text)),
        bytesField(9, joinFields([plugin, integerField(4, dataClassTensor)])),
      ]);
    }
  }
}

/** One string as a tensor of shape `[1]`. */
function encodeText(text: string): FieldBytes {
  const shape = bytesField(2, integerField(1, 1));
  return joinFields([integerField(1, dtypeString), bytesField(2, shape), stringField(8, text)]);
}

/** A histogram over positions 0, 1, 2, …: a bucket of width 1 around each of them. */
function encodeCounts(counts: readonly number[]): FieldBytes {
  const sum = (weigh: (at: number) => number): number =>
    counts.reduce((total, count, at) => total + count * weigh(at), 0);
  const fields: readonly (readonly [number, number])[] = [
    [1, -0.5],
    [2, counts.length - 0.5],
    [3, sum(() => 1)],
    [4, sum((at) => at)],
    [5, sum((at) => at * at)],
  ];
  const numbers = fields
    .filter(([, value]) => value !== 0)
    .map(([field, value]) => doubleField(field, value));
  const limits = counts.map((_, at) => at + 0.5);
  return joinFields([...numbers, doublesField(6, limits), doublesField(7, counts)]);
}
