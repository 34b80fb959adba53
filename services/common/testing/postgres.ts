/** A PostgreSQL of its own for tests: a fresh cluster in a temporary directory, on a unix socket, gone afterwards. @module */

const BINARIES = ["/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/15/bin"];

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
      "max_connections=60",
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

  async createDatabase(name: string): Promise<string> {
    const made = await this.#psql(`create database ${name}`);
    if (!made.success) throw new Error(new TextDecoder().decode(made.stderr));
    return this.url(name);
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

function binaries(): string | undefined {
  return BINARIES.find((directory) => {
    try {
      return Deno.statSync(`${directory}/postgres`).isFile;
    } catch {
      return false;
    }
  });
}

/** PostgreSQL refuses to run as root. */
function user(): string | undefined {
  const names = new Set(Deno.readTextFileSync("/etc/passwd").split("\n").map((line) => line.split(":")[0]));
  return ["postgres", "nobody"].find((name) => names.has(name));
}
