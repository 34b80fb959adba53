/** Where everything is: the cache that clusters share, and the folder of one cluster. @module */

const PROJECT = new URL("../../../", import.meta.url).pathname.replace(/\/$/, "");
const HERE = new URL("../", import.meta.url).pathname.replace(/\/$/, "");

/** The folder tests/kubernetes. */
export const SOURCES: string = HERE;

/** What is built and downloaded once. */
export class Cache {
  /** @param directory absolute; default: $WEIR_KUBERNETES_CACHE, else .build/kubernetes of the project */
  constructor(
    readonly directory: string = Deno.env.get("WEIR_KUBERNETES_CACHE") || `${PROJECT}/.build/kubernetes`,
  ) {
    if (!directory.startsWith("/")) throw new Error(`The cache is an absolute path, not ${directory}`);
  }

  /** Programs that were built from Go modules, and pause. */
  get bin(): string {
    return `${this.directory}/bin`;
  }

  /** Debian packages, unpacked: etcd, containerd, runc. */
  get packages(): string {
    return `${this.directory}/packages`;
  }

  get images(): string {
    return `${this.directory}/images`;
  }

  /** containerd's store with all images in it. */
  get store(): string {
    return `${this.directory}/store`;
  }

  /** PATH of what runs in a cluster. */
  get path(): string {
    const own = [this.bin, `${this.packages}/usr/sbin`, `${this.packages}/usr/bin`];
    return [...own, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].join(":");
  }

  cluster(name: string): string {
    return `${this.directory}/clusters/${name}`;
  }
}

/** Whether a file is there and none of what it was made of is newer. */
export function isUpToDate(path: string, sources: readonly string[]): boolean {
  if (!exists(path)) return false;
  const changedMs = (file: string) => Deno.statSync(file).mtime!.getTime();
  return sources.every((source) => changedMs(source) <= changedMs(path));
}

/** Whether there is such a file or folder. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}
