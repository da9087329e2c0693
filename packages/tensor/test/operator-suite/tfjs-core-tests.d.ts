/** Entries of tfjs-core that ship without usable declarations. */
declare module '@tensorflow/tfjs-core/dist/jasmine_util' {
  export function setTestEnvs(
    environments: readonly {
      readonly name: string;
      readonly backendName: string;
      readonly flags: object;
      readonly isDataSync: boolean;
    }[],
  ): void;
}
declare module '@tensorflow/tfjs-core/dist/tests';
