/** @file The process as a value: what the commands need of their surroundings. Only `cli.ts` touches the real one. */
import type { SignalSource } from './interrupt.ts';
import type { Terminal, TerminalSource } from './terminal/terminal.ts';

/** Streams, environment, signals, time. */
export interface Host extends TerminalSource {
  /** Standard input. */
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  /** Signals, and ending at once. */
  readonly signals: SignalSource;
  /** How the process was called, for those who find it at work. */
  readonly commandLine: string;
  /** Folder that relative paths start from. */
  readonly workingFolder: string;
  /** Milliseconds that never go back. */
  nowMs(): number;
  /** Milliseconds since 1970, for files that others date by; may jump. */
  wallTimeMs(): number;
  /** Memory of the process in RAM. */
  residentBytes(): number;
}

/** What a command gets besides its own flags. */
export interface CommandContext {
  /** The process. */
  readonly host: Host;
  /** Where its lines go. */
  readonly terminal: Terminal;
}

/** A command's work: returns the exit status. */
export type Work<Flags> = (flags: Flags, context: CommandContext) => Promise<number>;
