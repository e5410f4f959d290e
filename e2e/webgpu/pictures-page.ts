/** Runs in the browser's page: what it sees in files of the server. */
import { fromImageSource } from "@sdxs/runtime";
import type { SdxsError } from "@sdxs/tensor";

/** What tests call, as `globalThis.page`. */
const page = {
  async see(name: string) {
    const file = await (await fetch(`./pictures/${name}`)).blob();
    const { shape, data } = await fromImageSource(file);
    return { shape: [...shape], pixels: [...data] };
  },
  refusal: (text: string): Promise<unknown> =>
    fromImageSource(new Blob([text])).catch((error: unknown) => {
      const { code, message } = error as SdxsError;
      return [code, message];
    }),
};
export type PicturesPage = typeof page;

Object.assign(globalThis, { page });
