/** @file Turns whatever was thrown into a message for people, an object for programs, and an exit status. */
import { isMoebiusError } from '@moebius/core';
import type { ErrorCode, Serializable } from '@moebius/core';

import { exitCodes } from '../exit-codes.ts';

/** An error as `--json` prints it. */
export interface ErrorReport {
  /** Closed code of the error, or `internal`. */
  readonly code: ErrorCode;
  /** *subject: expectation, got value (remedy)*. */
  readonly message: string;
  /** Every number of the message. */
  readonly details: { readonly [key: string]: Serializable };
  /** Exit status. */
  readonly status: number;
  /** Where it was thrown; only for errors that nobody expected. */
  readonly stack: string | undefined;
}

const statusOf: { readonly [code in ErrorCode]: number } = {
  configuration: exitCodes.usage,
  registry: exitCodes.usage,
  plugin: exitCodes.usage,
  shape: exitCodes.unexpected,
  ownership: exitCodes.unexpected,
  capacity: exitCodes.unexpected,
  collective: exitCodes.unexpected,
  internal: exitCodes.unexpected,
  numerics: exitCodes.numerics,
  checkpoint: exitCodes.data,
  data: exitCodes.data,
  format: exitCodes.data,
  limit: exitCodes.data,
  io: exitCodes.data,
  engine: exitCodes.engine,
  aborted: exitCodes.interrupted,
};

/** Describes anything that was thrown. */
export function reportError(error: unknown): ErrorReport {
  if (isMoebiusError(error)) {
    const { code, message, details } = error;
    return { code, message, details, status: statusOf[code], stack: undefined };
  }
  const system = systemFault(error);
  if (system !== undefined) return system;
  const message = error instanceof Error ? error.message : String(error);
  const stack = error instanceof Error ? error.stack : undefined;
  return {
    code: 'internal',
    message: `internal: ${message}`,
    details: {},
    status: exitCodes.unexpected,
    stack,
  };
}

const systemRemedies: { readonly [code: string]: string } = {
  ENOENT: 'check the path',
  EACCES: 'check its permissions',
  EPERM: 'check its permissions',
  EROFS: 'choose a folder that can be written with --out',
  ENOSPC: 'free some disk space; what was saved before is still whole',
  EISDIR: 'name a file',
  ENOTDIR: 'name a folder',
};

/** Faults of the file system that a library let pass. */
function systemFault(error: unknown): ErrorReport | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  const remedy = systemRemedies[error.code];
  if (remedy === undefined) return undefined;
  const path = 'path' in error && typeof error.path === 'string' ? error.path : 'file system';
  const message = `${path}: must be usable, got ${error.code} (${remedy})`;
  return {
    code: 'io',
    message,
    details: { path, code: error.code },
    status: exitCodes.data,
    stack: undefined,
  };
}
