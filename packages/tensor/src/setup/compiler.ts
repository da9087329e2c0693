/** @file Finds a C++17 compiler. */
import { setupError } from './errors.ts';
import { type SetupPorts } from './ports.ts';

/** A compiler command. */
export interface Compiler {
  readonly command: string;
  /** Parameters before all others, for example `-m ziglang c++`. */
  readonly prefix: readonly string[];
  /** First line of `--version`. */
  readonly version: string;
  /**
   * Whether it links C++ against another standard library than TensorFlow's (libstdc++). The binding speaks C and does
   * not mind; our kernels exchange C++ strings with TensorFlow and cannot load.
   */
  readonly foreignLibrary: boolean;
}

const candidates: readonly { readonly command: string; readonly prefix: readonly string[] }[] = [
  { command: 'g++', prefix: [] },
  { command: 'c++', prefix: [] },
  { command: 'clang++', prefix: [] },
  { command: 'zig', prefix: ['c++'] },
  { command: 'python3', prefix: ['-m', 'ziglang', 'c++'] },
];

/**
 * Finds the first compiler that answers `--version`.
 *
 * @param ports - runs commands
 * @throws `engine`, stage `compiler`, when there is none
 */
export async function findCompiler(ports: SetupPorts): Promise<Compiler> {
  for (const { command, prefix } of candidates) {
    const result = await ports.run(command, [...prefix, '--version'], { timeoutMs: 30_000 });
    if (result.status !== 0) continue;
    const version = result.output.split('\n')[0]?.trim() ?? '';
    return { command, prefix, version, foreignLibrary: prefix.length > 0 };
  }
  throw setupError(
    'compiler',
    'C++ compiler: one of g++, c++, clang++, zig must be installed, found none (apt install g++, or python3 -m pip install ziglang)',
    undefined,
    { tried: candidates.map(({ command, prefix }) => [command, ...prefix].join(' ')) },
  );
}
