import { defineConfig, type Options } from 'tsup';

/**
 * The one build configuration of every package: ESM only, one entry per `exports` key, declarations by
 * the pinned TypeScript. Leaving tsup means changing this file (ADR 0001).
 */
export function packageBuild(options: {
  entries: Record<string, string>;
  /** Whether anybody imports it; a program has no declarations. Default true. */
  types?: boolean;
}): Options | Options[] {
  const { entries, types = true } = options;
  return defineConfig({
    entry: entries,
    format: ['esm'],
    target: 'node20',
    platform: 'node',
    dts: types && {
      compilerOptions: {
        composite: false,
        rewriteRelativeImportExtensions: false,
        allowImportingTsExtensions: true,
        customConditions: [],
      },
    },
    sourcemap: true,
    clean: true,
    splitting: true,
    treeshake: true,
  }) as Options;
}
