/** @file What the set-up needs from outside, as values: commands, file writing, time and a voice. Tests pass their own. */
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';

/** How a command ended. */
export interface RunResult {
  /** Exit status; null when it could not start or was killed. */
  readonly status: number | null;
  /** The last 8,000 characters of stdout and stderr together. */
  readonly output: string;
  /** Set when the command could not be started (`ENOENT`: not installed) or ran past its time. */
  readonly failure?: string;
}

/** How a command runs. */
export interface RunOptions {
  readonly timeoutMs: number;
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** An open file that is written from start to end. */
export interface FileWriter {
  write(bytes: Uint8Array): Promise<void>;
  /** Flushes to the disk and closes. */
  finish(): Promise<void>;
  /** Closes without flushing, after a failure. */
  abandon(): Promise<void>;
}

/** The outside world of the set-up. */
export interface SetupPorts {
  run(command: string, parameters: readonly string[], options: RunOptions): Promise<RunResult>;
  openWriter(path: string): Promise<FileWriter>;
  /** Milliseconds on a clock that only goes forward. */
  now(): number;
  /** One line for the user. */
  report(line: string): void;
}

const keptOutput = 8_000;

/**
 * The real world.
 *
 * @param report - receives one line per step; silent by default
 */
export function createSetupPorts(report: (line: string) => void = () => {}): SetupPorts {
  return { run: runCommand, openWriter: openFileWriter, now: () => performance.now(), report };
}

function runCommand(command: string, parameters: readonly string[], options: RunOptions): Promise<RunResult> {
  return new Promise((resolve) => {
    let output = '';
    const child = spawn(command, parameters, {
      cwd: options.cwd,
      env: { ...process.env, ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: options.timeoutMs,
      killSignal: 'SIGKILL',
      windowsHide: true,
    });
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString('utf8')).slice(-keptOutput);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ status: null, output, failure: error.code ?? error.message }),
    );
    child.on('close', (status, signal) => {
      if (status !== null) resolve({ status, output });
      else resolve({ status, output, failure: `ended by ${signal ?? 'a signal'}` });
    });
  });
}

async function openFileWriter(path: string): Promise<FileWriter> {
  const file = await open(path, 'wx', 0o644);
  return {
    write: async (bytes) => {
      await file.writeFile(bytes);
    },
    finish: async () => {
      await file.datasync();
      await file.close();
    },
    abandon: () => file.close(),
  };
}
