/** @file Element types, by their safetensors names. */

/** An element type, by its safetensors name, in the order of the reference library. */
export type DType =
  | 'BOOL'
  | 'F4'
  | 'F6_E2M3'
  | 'F6_E3M2'
  | 'U8'
  | 'I8'
  | 'F8_E5M2'
  | 'F8_E4M3'
  | 'F8_E8M0'
  | 'F8_E4M3FNUZ'
  | 'F8_E5M2FNUZ'
  | 'I16'
  | 'U16'
  | 'F16'
  | 'BF16'
  | 'I32'
  | 'U32'
  | 'F32'
  | 'C64'
  | 'F64'
  | 'I64'
  | 'U64';

const bitsByName: ReadonlyMap<string, number> = new Map<DType, number>([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
]);

/** Every element type, in the order of the reference library (ascending size). */
export const dtypes: readonly DType[] = Object.freeze([...bitsByName.keys()] as DType[]);

/** Whether a string names an element type. */
export function isDType(name: string): name is DType {
  return bitsByName.has(name);
}

/** Bits of one element. */
export function bitsOf(dtype: DType): number {
  return bitsByName.get(dtype) ?? 0;
}

/**
 * Elements of a shape; 1 for a scalar (`[]`).
 *
 * @returns `undefined` when a dimension is not a non-negative safe integer or the product is not one
 */
export function elementCount(shape: readonly number[]): number | undefined {
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) return undefined;
  if (shape.includes(0)) return 0;
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  return count;
}

/**
 * Bytes of a tensor, packed.
 *
 * @returns `undefined` when the shape is invalid, the size overflows, or sub-byte elements do not fill whole bytes
 */
export function byteLength(dtype: DType, shape: readonly number[]): number | undefined {
  const count = elementCount(shape);
  if (count === undefined) return undefined;
  const bits = count * bitsOf(dtype);
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : undefined;
}
