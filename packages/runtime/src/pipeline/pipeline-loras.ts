import { mergeLora, type HostLoraAdapter, type Lora, type LoraComponent } from "@sdxs/lora";
import { mapTensors, prefixed, type HostParams, type HostTensor } from "@sdxs/tensor";

/** LoRAs of one file, as `readLora` of `@sdxs/lora` gives them, and how much of them is added. */
export interface PipelineLora extends Readonly<Partial<Record<LoraComponent, Lora<HostTensor>>>> {
  /** Default 1; less for a weaker effect, negative for its opposite. */
  readonly weight?: number;
}

/** Which weights of the networks of one stage LoRAs change. */
export class LoraSwitch {
  private current: Readonly<Record<string, readonly HostLoraAdapter[]>> = {};

  /**
   * @param networks their own weights
   * @param apply takes the weights that changed, as "unet.NAME"; none: back to the networks' own
   */
  constructor(
    private readonly networks: Readonly<Partial<Record<LoraComponent, HostParams>>>,
    private readonly apply: (changed: HostParams) => Promise<void>,
  ) {}

  /**
   * Does nothing where these LoRAs act already. Returns what applies them, so that those of all stages are checked first.
   *
   * Throws `ParameterError`, which lists every entry that does not fit a network.
   */
  prepare(loras: readonly PipelineLora[]): () => Promise<void> {
    const adapters = mapTensors(this.networks, (_, part) => adaptersOf(loras, part as LoraComponent));
    const isSame = Object.entries(adapters).every(([part, wanted]) => areSame(wanted, this.current[part] ?? []));
    if (isSame) return async () => undefined;
    const changed = Object.entries(this.networks).map(([part, params]) => {
      const merged = Object.entries(mergeLora(params, adapters[part] ?? []));
      return prefixed(Object.fromEntries(merged.filter(([name, tensor]) => tensor !== params[name])), `${part}.`);
    });
    return async () => {
      await this.apply(Object.assign({}, ...changed) as HostParams);
      this.current = adapters;
    };
  }
}

function adaptersOf(loras: readonly PipelineLora[], part: LoraComponent): HostLoraAdapter[] {
  return loras.flatMap(({ [part]: lora, weight = 1 }) => (lora === undefined ? [] : { ...lora, weight }));
}

function areSame(some: readonly HostLoraAdapter[], others: readonly HostLoraAdapter[]): boolean {
  const isSame = ({ params, weight }: HostLoraAdapter, index: number): boolean =>
    params === others[index]?.params && weight === others[index].weight;
  return some.length === others.length && some.every(isSame);
}
