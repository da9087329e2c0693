/**
 * @file The one error family of Moebius.
 *
 * Every error has a closed `code`, a message of the form *subject: expectation, got value (remedy)*, and plain,
 * serializable `details` with every number of the message. Check with {@link isMoebiusError}, never with
 * `instanceof`: two copies of a package in one program still recognise each other's errors by the marker.
 */

const marker: unique symbol = Symbol.for('moebius.error') as never;

/** The closed list of error codes. */
export type ErrorCode =
  | 'configuration'
  | 'shape'
  | 'ownership'
  | 'numerics'
  | 'capacity'
  | 'collective'
  | 'checkpoint'
  | 'registry'
  | 'engine'
  | 'data'
  | 'format'
  | 'limit'
  | 'io'
  | 'plugin'
  | 'aborted'
  | 'internal';

/** A plain value that survives JSON. */
export type Serializable =
  | string
  | number
  | boolean
  | null
  | readonly Serializable[]
  | { readonly [key: string]: Serializable };

/** What a {@link MoebiusError} is made from. */
export interface ErrorFields {
  /** Closed code, one of {@link ErrorCode}. */
  readonly code: ErrorCode;
  /** *subject: expectation, got value (remedy)*. */
  readonly message: string;
  /** Every number and name of the message, as data. */
  readonly details?: { readonly [key: string]: Serializable };
  /** The error that led here. */
  readonly cause?: unknown;
}

/**
 * An error with a closed code and plain details.
 *
 * @example
 * ```ts
 * throw new MoebiusError({
 *   code: 'configuration',
 *   message: 'experts: must be at least topK 4, got 2 (raise experts or lower topK)',
 *   details: { experts: 2, topK: 4 },
 * });
 * ```
 */
export class MoebiusError extends Error {
  /** Closed code. */
  readonly code: ErrorCode;
  /** Plain data: every number of the message. */
  readonly details: { readonly [key: string]: Serializable };

  constructor(fields: ErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = 'MoebiusError';
    this.code = fields.code;
    this.details = fields.details ?? {};
    Object.defineProperty(this, marker, { value: true });
  }
}

/**
 * Whether a value is a Moebius error, and, when given, has this code. Works across duplicated package copies.
 *
 * @param value - anything that was thrown
 * @param code - the code to ask for
 */
export function isMoebiusError(value: unknown, code?: ErrorCode): value is MoebiusError {
  if (typeof value !== 'object' || value === null || !(marker in value)) return false;
  return code === undefined || (value as unknown as MoebiusError).code === code;
}
