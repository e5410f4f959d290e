import type { Backend, CompileSpec, Program } from "@sdxs/tensor";

export interface CountingBackend<D> {
  readonly backend: Backend<D>;
  /** Since the last call: programs compiled, and parameters uploaded for them. */
  readonly counted: () => { readonly compilations: number; readonly uploads: number };
}

/** A backend that counts its work. */
export function countingBackend<D>(backend: Backend<D>): CountingBackend<D> {
  let counts = { compilations: 0, uploads: 0 };
  return {
    backend: {
      ...backend,
      async compile<In extends string, Out extends string>(program: Program<In, Out>, spec: CompileSpec<In>) {
        counts.compilations++;
        const compiled = await backend.compile(program, spec);
        return {
          compileMs: compiled.compileMs,
          upload(params, options) {
            counts.uploads += Object.keys(params).length;
            return compiled.upload(params, options);
          },
          run: (params, inputs) => compiled.run(params, inputs),
          dispose: () => compiled.dispose(),
        } satisfies typeof compiled;
      },
    },
    counted() {
      const since = counts;
      counts = { compilations: 0, uploads: 0 };
      return since;
    },
  };
}
