/**
 * What of an endpoint cannot be asked again after a restart: its name, labels, number and addresses. One JSON file per
 * endpoint, replaced atomically, so that a killed process leaves the old or the new one.
 * @module
 */
import { Endpoint } from "@weir/proto/endpoint";

/** A file that could not be read back. It is kept aside as `<file>.broken`. */
export interface BrokenFile {
  file: string;
  error: string;
}

const FILE_SUFFIX = ".json";
/** File names are at most 255 bytes on Linux, the suffix of the temporary file included. */
const NAME_BYTES_MAX = 230;

/** See the module comment. */
export class EndpointStore {
  /** @param directory made when absent */
  constructor(private readonly directory: string) {}

  private path(name: string): string {
    return `${this.directory}/${encodeURIComponent(name)}${FILE_SUFFIX}`;
  }

  /** True when a name fits into a file name. */
  static fits(name: string): boolean {
    return encodeURIComponent(name).length <= NAME_BYTES_MAX;
  }

  /** All endpoints. A broken file is set aside and named, it never keeps the others from coming back. */
  async load(): Promise<{ endpoints: Endpoint[]; broken: BrokenFile[] }> {
    await Deno.mkdir(this.directory, { recursive: true, mode: 0o750 });
    const endpoints: Endpoint[] = [];
    const broken: BrokenFile[] = [];
    for await (const entry of Deno.readDir(this.directory)) {
      if (!entry.name.endsWith(FILE_SUFFIX)) continue;
      const file = `${this.directory}/${entry.name}`;
      try {
        endpoints.push(Endpoint.fromJson(JSON.parse(await Deno.readTextFile(file))));
      } catch (error) {
        broken.push({ file, error: (error as Error).message });
        await Deno.rename(file, `${file}.broken`);
      }
    }
    endpoints.sort((a, b) => a.name < b.name ? -1 : 1);
    return { endpoints, broken };
  }

  /** Writes or replaces. Only the spec, number, addresses and identity are kept. */
  async save(endpoint: Endpoint): Promise<void> {
    const { id, ipv4, ipv6, mac, identity } = endpoint.status ?? {};
    const kept = Endpoint.create({ ...endpoint, status: { id, ipv4, ipv6, mac, identity } });
    const path = this.path(endpoint.name);
    await Deno.writeTextFile(`${path}.tmp`, JSON.stringify(Endpoint.toJson(kept)), { mode: 0o640 });
    await Deno.rename(`${path}.tmp`, path);
  }

  /** Repeatable. */
  async remove(name: string): Promise<void> {
    try {
      await Deno.remove(this.path(name));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
