/** A PostgreSQL of its own for tests: a fresh cluster in a temporary directory, on a unix socket, gone afterwards. @module */

/** Debian keeps each version in a directory of its own. */
const VERSIONS = "/usr/lib/postgresql";

/** Why PostgreSQL cannot be used here; undefined when it can. Print it as `SKIP <why>`. */
export function postgresMissing(): string | undefined {
  if (binaries() === undefined) return "PostgreSQL is not installed";
  if (Deno.uid() === 0 && user() === undefined) return "there is no unprivileged user for PostgreSQL";
  return undefined;
}

/** A running cluster. */
export class TestPostgres {
  #process: Deno.ChildProcess | undefined;

  private constructor(readonly directory: string) {}

  /** Makes and starts a cluster; always `await close()` it. */
  static async start(): Promise<TestPostgres> {
    const directory = await Deno.makeTempDir({ prefix: "weir-pg-" });
    await Deno.chmod(directory, 0o777);
    const cluster = new TestPostgres(directory);
    const made = await cluster.#run([
      `${binaries()}/initdb`,
      "-D",
      `${directory}/data`,
      "-U",
      "weir",
      "-A",
      "trust",
      "-N",
    ]).output();
    if (!made.success) throw new Error(`initdb failed: ${new TextDecoder().decode(made.stderr)}`);
    await cluster.up();
    return cluster;
  }

  /** For `new Database()`; `database` is created by {@link createDatabase}. */
  url(database = "postgres"): string {
    return `postgres://weir@localhost/${database}?host=${encodeURIComponent(this.directory)}`;
  }

  /** Starts the server (again) and waits until it answers. */
  async up(): Promise<void> {
    const options = [
      "-c",
      "listen_addresses=",
      "-c",
      "fsync=off",
      "-c",
      "max_connections=100",
      "-c",
      "shared_buffers=16MB",
    ];
    this.#process = this.#run([
      `${binaries()}/postgres`,
      "-D",
      `${this.directory}/data`,
      "-k",
      this.directory,
      ...options,
    ]).spawn();
    const end = Date.now() + 30_000;
    while (!(await this.#psql("select 1")).success) {
      if (Date.now() > end) throw new Error("PostgreSQL did not start within 30 s");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Stops the server at once, as a crash does; its data stay. */
  async down(): Promise<void> {
    const pid =
      (await Deno.readTextFile(`${this.directory}/data/postmaster.pid`).catch(() => "")).split("\n")[0];
    if (pid !== "") Deno.kill(Number(pid), "SIGQUIT");
    await this.#process?.status;
    this.#process = undefined;
  }

  /** Stops all its processes where they are: connections stand, and nothing answers. */
  async freeze(): Promise<void> {
    for (const pid of await this.#pids()) signal(pid, "SIGSTOP");
  }

  async thaw(): Promise<void> {
    // runuser stops itself when its child is stopped.
    this.#process?.kill("SIGCONT");
    for (const pid of await this.#pids()) signal(pid, "SIGCONT");
  }

  async #pids(): Promise<number[]> {
    const pid = Number((await Deno.readTextFile(`${this.directory}/data/postmaster.pid`)).split("\n")[0]);
    const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
    return [pid, ...children.split(" ").filter((text) => text !== "").map(Number)];
  }

  async createDatabase(name: string): Promise<string> {
    const made = await this.#psql(`create database ${name}`);
    if (!made.success) throw new Error(new TextDecoder().decode(made.stderr));
    return this.url(name);
  }

  /** Everything in a database, as SQL that puts it in the place of what is there. */
  async dump(name: string): Promise<string> {
    const dumped = await new Deno.Command(`${binaries()}/pg_dump`, {
      args: ["-h", this.directory, "-U", "weir", "--clean", "--if-exists", name],
      stdout: "piped",
      stderr: "piped",
    }).output();
    if (!dumped.success) throw new Error(new TextDecoder().decode(dumped.stderr));
    return new TextDecoder().decode(dumped.stdout);
  }

  /** Runs a dump, in one transaction, while others use the database. */
  async restore(name: string, dump: string): Promise<void> {
    const file = `${this.directory}/dump.sql`;
    await Deno.writeTextFile(file, dump);
    const restored = await new Deno.Command(`${binaries()}/psql`, {
      args: [
        ...["-h", this.directory, "-U", "weir", "-d", name, "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", file],
      ],
      stdout: "null",
      stderr: "piped",
    }).output();
    if (!restored.success) throw new Error(new TextDecoder().decode(restored.stderr));
  }

  async close(): Promise<void> {
    await this.down();
    await Deno.remove(this.directory, { recursive: true });
  }

  #psql(query: string): Promise<Deno.CommandOutput> {
    return new Deno.Command(`${binaries()}/psql`, {
      args: ["-h", this.directory, "-U", "weir", "-d", "postgres", "-Atc", query],
      stdout: "null",
      stderr: "piped",
    }).output();
  }

  #run(command: string[]): Deno.Command {
    const full = Deno.uid() === 0 ? ["runuser", "-u", user()!, "--", ...command] : command;
    return new Deno.Command(full[0], {
      args: full.slice(1),
      cwd: this.directory,
      stdin: "null",
      stdout: "null",
      stderr: command[0].endsWith("initdb") ? "piped" : "null",
    });
  }
}

/** Of the newest version; undefined when there is none. */
function binaries(): string | undefined {
  try {
    const versions = [...Deno.readDirSync(VERSIONS)].map(({ name }) => name).sort((a, b) =>
      Number(b) - Number(a)
    );
    return versions.map((version) => `${VERSIONS}/${version}/bin`).find((directory) =>
      [...Deno.readDirSync(directory)].some(({ name }) => name === "postgres")
    );
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** PostgreSQL refuses to run as root. */
function user(): string | undefined {
  const names = new Set(Deno.readTextFileSync("/etc/passwd").split("\n").map((line) => line.split(":")[0]));
  return ["postgres", "nobody"].find((name) => names.has(name));
}

/** Its backends end when they like. */
function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
