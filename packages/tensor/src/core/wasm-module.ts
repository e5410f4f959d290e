/** A module that the sources contain as base64. Throws where WebAssembly is missing or forbidden. */
export const wasmModule = (base64: string): WebAssembly.Module =>
  new WebAssembly.Module(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
