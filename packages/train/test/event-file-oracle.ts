/** @file Reads event files, slowly and obviously: records, then fields by number, then the few messages we know. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** A field's values in order: numbers of fixed fields, the raw value of a varint, bytes of the rest. */
export type Fields = { readonly [field: number]: readonly (number | Buffer)[] };

/** An event as tests compare it. */
export interface ReadEvent {
  readonly wallTime: number;
  readonly step: number;
  readonly version?: string;
  readonly isSessionStart: boolean;
  readonly scalars: { readonly [tag: string]: number };
  readonly texts: { readonly [tag: string]: string };
  readonly histograms: { readonly [tag: string]: { limits: number[]; counts: number[]; sums: number[] } };
}

/** The content of every whole record; what follows a broken one is left out. */
export function readRecords(file: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at + 16 <= file.length;) {
    const length = Number(file.readBigUInt64LE(at));
    if (file.readUInt32LE(at + 8) !== mask(crcOf(file.subarray(at, at + 8)))) break;
    const content = file.subarray(at + 12, at + 12 + length);
    if (at + 16 + length > file.length) break;
    if (file.readUInt32LE(at + 12 + length) !== mask(crcOf(content))) break;
    records.push(content);
    at += 16 + length;
  }
  return records;
}

/** Every event of a file. */
export function readEvents(file: Buffer): ReadEvent[] {
  return readRecords(file).map((record) => {
    const event = readFields(record);
    const values = bytes(readFields(bytes(event[5])[0] ?? Buffer.alloc(0))[1]).map(readFields);
    const tagged = (field: number): [string, Buffer | number][] =>
      values
        .filter((value) => field in value)
        .map((value) => [String(bytes(value[1])[0]), value[field]![0]!]);
    return {
      wallTime: event[1]![0] as number,
      step: (event[2]?.[0] as number | undefined) ?? 0,
      ...(event[3] === undefined ? {} : { version: String(bytes(event[3])[0]) }),
      isSessionStart: event[7] !== undefined && readFields(bytes(event[7])[0]!)[1]?.[0] === 1,
      scalars: Object.fromEntries(tagged(2)) as { [tag: string]: number },
      texts: Object.fromEntries(tagged(8).map(([tag, value]) => [tag, textOf(value as Buffer)])),
      histograms: Object.fromEntries(tagged(5).map(([tag, value]) => [tag, histogramOf(value as Buffer)])),
    };
  });
}

/** Every event of a folder, its files in the order of their names. */
export function readEventFolder(folder: string): ReadEvent[][] {
  const names = readdirSync(folder).toSorted();
  return names.map((name) => readEvents(readFileSync(join(folder, name))));
}

function textOf(tensor: Buffer): string {
  return String(bytes(readFields(tensor)[8])[0]);
}

function histogramOf(message: Buffer): { limits: number[]; counts: number[]; sums: number[] } {
  const fields = readFields(message);
  const doubles = (field: number): number[] => {
    const packed = bytes(fields[field])[0] ?? Buffer.alloc(0);
    return Array.from({ length: packed.length / 8 }, (_, at) => packed.readDoubleLE(8 * at));
  };
  const sums = [1, 2, 3, 4, 5].map((field) => (fields[field]?.[0] as number | undefined) ?? 0);
  return { limits: doubles(6), counts: doubles(7), sums };
}

function bytes(values: readonly (number | Buffer)[] | undefined): Buffer[] {
  return (values ?? []) as Buffer[];
}

function readFields(message: Buffer): Fields {
  const fields: { [field: number]: (number | Buffer)[] } = {};
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++]!;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const read: { [wireType: number]: () => number | Buffer } = {
      0: varint,
      1: () => message.readDoubleLE((at += 8) - 8),
      2: () => {
        const length = varint();
        return message.subarray(at, (at += length));
      },
      5: () => message.readFloatLE((at += 4) - 4),
    };
    (fields[Math.floor(key / 8)] ??= []).push(read[key % 8]!());
  }
  return fields;
}

function crcOf(content: Buffer): number {
  let rest = 0xffff_ffff;
  for (const byte of content) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? (rest >>> 1) ^ 0x82f6_3b78 : rest >>> 1;
  }
  return ~rest >>> 0;
}

function mask(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282_ead8) >>> 0;
}
