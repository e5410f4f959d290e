/** What is asked of the machine. */
export interface Machine {
  readonly platform: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly exists: (path: string) => boolean;
  /** Names in a folder; none where there is no such folder. */
  readonly list: (folder: string) => readonly string[];
  /** What is mapped into this process, as /proc/self/maps has it. */
  readonly mapped: () => string;
}

/** Where Linux has its GPUs: NVIDIA's, those of Windows' subsystem, and those of boards; all others are in /dev/dri. */
const NVIDIA = ["/dev/nvidiactl", "/dev/dxg"];
const DEVICES = [...NVIDIA, "/dev/mali0", "/dev/kgsl-3d0", "/dev/nvhost-gpu"];

/** What names a Vulkan driver to its loader, beside files in folders. */
const VULKAN_VARIABLES = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"];

/**
 * Why onnxruntime-node's provider, or Dawn for "webgpu", cannot compute on a GPU of this machine; undefined where it may. To be
 * asked before these, which print what they miss. It knows of Linux.
 *
 * @param provider as onnxruntime names it
 * @param allowsEmulated whether a driver without a GPU will do
 */
export function missingGpu(
  provider: string,
  allowsEmulated: boolean,
  machine: Machine | undefined = thisMachine(),
): string | undefined {
  if (machine?.platform !== "linux") return undefined;
  const { exists, list } = machine;
  if (provider === "cuda") {
    if (!NVIDIA.some(exists)) return "no NVIDIA driver was found.";
    const folder = onnxruntimeFolder(machine.mapped());
    const isInstalled = folder === undefined || exists(`${folder}/libonnxruntime_providers_cuda.so`);
    return isInstalled ? undefined : "onnxruntime-node was installed without its files for CUDA.";
  }
  if (provider !== "webgpu") return undefined;
  if (!hasVulkanDriver(machine)) return "no Vulkan driver is installed.";
  const hasGpu = DEVICES.some(exists) || list("/dev/dri").some((name) => name.startsWith("render"));
  return hasGpu || allowsEmulated ? undefined : "no graphics processor was found.";
}

/** The folder that onnxruntime-node was loaded from. */
const onnxruntimeFolder = (mapped: string): string | undefined => /(\/.*)\/libonnxruntime\.so/.exec(mapped)?.[1];

/** By the loader's own rules: https://vulkan.lunarg.com/doc/sdk/latest/linux/LoaderDriverInterface.html */
function hasVulkanDriver({ env, list }: Machine): boolean {
  if (VULKAN_VARIABLES.some((name) => env[name])) return true;
  const home = env["HOME"] ?? "";
  const folders = [
    env["XDG_CONFIG_HOME"] || `${home}/.config`,
    ...(env["XDG_CONFIG_DIRS"] || "/etc/xdg").split(":"),
    "/etc",
    env["XDG_DATA_HOME"] || `${home}/.local/share`,
    ...(env["XDG_DATA_DIRS"] || "/usr/local/share:/usr/share").split(":"),
    "/run/opengl-driver/share", // NixOS
  ];
  return folders.some((folder) => list(`${folder}/vulkan/icd.d`).some((name) => name.endsWith(".json")));
}

/** Undefined in browsers, and in Node before 20.16. */
function thisMachine(): Machine | undefined {
  const inNode = (globalThis as { process?: Partial<NodeJS.Process> }).process;
  const fs = inNode?.getBuiltinModule?.("node:fs");
  if (inNode === undefined || fs === undefined) return undefined;
  const orElse = <R>(read: () => R, otherwise: R): R => {
    try {
      return read();
    } catch {
      return otherwise;
    }
  };
  return {
    platform: inNode.platform ?? "",
    env: inNode.env ?? {},
    exists: (path) => fs.existsSync(path),
    list: (folder) => orElse(() => fs.readdirSync(folder), []),
    mapped: () => orElse(() => fs.readFileSync("/proc/self/maps", "utf8"), ""),
  };
}
