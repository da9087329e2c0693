import { packageBuild } from '../../tooling/tsup/package-build.ts';

export default packageBuild({
  entries: {
    index: 'src/index.ts',
    'experts/index': 'src/experts/index.ts',
    'losses/index': 'src/losses/index.ts',
    'metrics/index': 'src/metrics/index.ts',
    'experimental/index': 'src/experimental/index.ts',
    'surgery/index': 'src/surgery/index.ts',
    'gates/index': 'src/gates/index.ts',
    'latency/index': 'src/latency/index.ts',
    'testing/index': 'src/testing/index.ts',
  },
});
