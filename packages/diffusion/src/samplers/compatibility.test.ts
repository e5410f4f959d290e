import { documentTables } from "@sdxs/tensor/testing";
import { describe, expect, it } from "vitest";
import { checkSchedulerConfig, planFromConfig, schedulerNames, type SchedulerConfig } from "../index.js";

const rows = await documentTables(new URL("../../../../docs/compatibility.md", import.meta.url), "Schedulers");
const [fields, classes] = [true, false].map((isField) =>
  rows.filter(([, written = ""]) => written.startsWith("{") === isField),
);

describe("docs/compatibility.md says of schedulers", () => {
  it("each class that is supported, with its short name", () => {
    expect(classes!.map(([className, shortName]) => [className, shortName])).toEqual(schedulerNames());
  });

  it.each(fields!)("%s (%s): %s", (_, written = "", here) => {
    const config = JSON.parse(written) as SchedulerConfig;
    const check = (): string[] => {
      planFromConfig(config, config.num_train_timesteps === 2 ? 2 : 4);
      return checkSchedulerConfig(config);
    };
    if (here === "refused by name") {
      const field = Object.keys(config).at(-1)!;
      expect(check).toThrow(field === "_class_name" ? config._class_name : field);
    } else expect(check().length).toBe(here === "warned of" ? 1 : 0);
  });
});
