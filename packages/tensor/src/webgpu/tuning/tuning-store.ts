/** Where measured tilings are kept: texts by key. One that fails to read or write costs a measurement, nothing else. */
export interface TuningStore {
  get(key: string): Promise<string | undefined>;
  set(key: string, value: string): Promise<void>;
}

const DATABASE = "sdxs";
const TABLE = "tilings";

const resultOf = <R>(request: IDBRequest<R>): Promise<R> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB gave no reason"));
  });

function openDatabase(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
  return resultOf(request);
}

/** A store in the browser's IndexedDB, which pages and workers have; undefined elsewhere. */
export function browserTuningStore(): TuningStore | undefined {
  if (typeof indexedDB === "undefined") return undefined;
  const use = async <R>(mode: IDBTransactionMode, work: (table: IDBObjectStore) => IDBRequest<R>): Promise<R> => {
    const database = await openDatabase();
    try {
      return await resultOf(work(database.transaction(TABLE, mode).objectStore(TABLE)));
    } finally {
      database.close();
    }
  };
  return {
    get: (key) => use("readonly", (table) => table.get(key) as IDBRequest<string | undefined>),
    async set(key, value) {
      await use("readwrite", (table) => table.put(value, key));
    },
  };
}
