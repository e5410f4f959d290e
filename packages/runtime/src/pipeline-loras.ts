import { mergeLora, type HostLoraAdapter, type Lora } from "@sdxs/lora";
import type { HostParams, HostTensor } from "@sdxs/tensor";

/** LoRAs of one file, and how much of them is added. */
export interface PipelineLora {
  readonly unet?: Lora<HostTensor>;
  readonly text_encoder?: Lora<HostTensor>;
  /** Default 1; less for a weaker effect, negative for its opposite. */
  readonly weight?: number;
}

/** Which weights of one network LoRAs change. */
export class LoraSwitch {
  private current: readonly HostLoraAdapter[] = [];

  /** @param apply takes the weights that changed; none: back to the network's own. */
  constructor(
    private readonly params: HostParams,
    private readonly part: "unet" | "text_encoder",
    private readonly apply: (changed: HostParams) => Promise<void>,
  ) {}

  /**
   * Does nothing where these LoRAs act already. Returns what applies them, so that those of all networks are checked first.
   *
   * Throws `ParameterError`, which lists every entry that does not fit the network.
   */
  prepare(loras: readonly PipelineLora[]): () => Promise<void> {
    const adapters = loras.flatMap(({ [this.part]: lora, weight = 1 }) =>
      lora === undefined ? [] : { ...lora, weight },
    );
    const isSame = ({ params, weight }: HostLoraAdapter, index: number): boolean =>
      params === this.current[index]?.params && weight === this.current[index].weight;
    if (adapters.length === this.current.length && adapters.every(isSame)) return async () => undefined;
    const merged = mergeLora(this.params, adapters);
    const changed = Object.entries(merged).filter(([name, tensor]) => tensor !== this.params[name]);
    return async () => {
      await this.apply(Object.fromEntries(changed));
      this.current = adapters;
    };
  }
}
