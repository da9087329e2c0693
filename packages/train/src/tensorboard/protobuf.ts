/**
 * @file The wire format of protocol buffers, as much of it as event files need: fields as bytes, in the order given.
 * A message is its fields, one after the other.
 */

/** Bytes of one or several fields. */
export type FieldBytes = Uint8Array;

const wireTypes = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;
const utf8 = new TextEncoder();

/** Fields, one after the other. */
export function joinFields(fields: readonly FieldBytes[]): FieldBytes {
  const joined = new Uint8Array(fields.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const field of fields) {
    joined.set(field, at);
    at += field.length;
  }
  return joined;
}

/** `int64`, `int32` or an enumeration; negative numbers are not needed here. */
export function integerField(field: number, value: number): FieldBytes {
  return Uint8Array.from([...tag(field, wireTypes.varint), ...varint(value)]);
}

/** `double`. */
export function doubleField(field: number, value: number): FieldBytes {
  return withTag(tag(field, wireTypes.fixed64), doubles([value]));
}

/** `float`. */
export function floatField(field: number, value: number): FieldBytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return withTag(tag(field, wireTypes.fixed32), bytes);
}

/** `repeated double`, packed. */
export function doublesField(field: number, values: readonly number[]): FieldBytes {
  return bytesField(field, doubles(values));
}

/** `bytes`, or a message inside another. */
export function bytesField(field: number, content: Uint8Array): FieldBytes {
  return withTag([...tag(field, wireTypes.bytes), ...varint(content.length)], content);
}

/** `string`. */
export function stringField(field: number, text: string): FieldBytes {
  return bytesField(field, utf8.encode(text));
}

function tag(field: number, wireType: number): number[] {
  return varint(field * 8 + wireType);
}

/** Seven bits a byte, the lowest first, up to 2⁵³. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return [...bytes, rest];
}

function doubles(values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(8 * values.length);
  const view = new DataView(bytes.buffer);
  values.forEach((value, at) => view.setFloat64(8 * at, value, true));
  return bytes;
}

function withTag(start: readonly number[], content: Uint8Array): FieldBytes {
  const field = new Uint8Array(start.length + content.length);
  field.set(start);
  field.set(content, start.length);
  return field;
}
