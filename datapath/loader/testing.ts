/** What tests of the datapath share: compiling small programs, knowing whether the kernel may be used. @module */

/** Why kernel tests cannot run here, undefined when they can. Printed once by tests that are skipped. */
function kernelTestsSkipped(): string | undefined {
  if (Deno.build.os !== "linux") return "not Linux";
  if (Deno.uid() !== 0) return "not root";
  try {
    Deno.statSync("/sys/kernel/btf/vmlinux");
    return undefined;
  } catch {
    return "kernel without BTF";
  }
}

/** `Deno.test` that runs with root and a kernel, else says SKIP. */
export function kernelTest(name: string, run: () => void | Promise<void>): void {
  const skipped = kernelTestsSkipped();
  if (skipped !== undefined) console.log(`SKIP ${name}: ${skipped}`);
  Deno.test({ name, ignore: skipped !== undefined, fn: run });
}

/** Compiles a C source for eBPF. @param url of the source */
export function compileBpf(url: URL): Uint8Array<ArrayBuffer> {
  const output = new Deno.Command("clang-19", {
    args: [
      "-target",
      "bpf",
      "-O2",
      "-g",
      "-mcpu=v3",
      `-I/usr/include/${Deno.build.arch}-linux-gnu`,
      "-c",
      url.pathname,
      "-o",
      "-",
    ],
  }).outputSync();
  if (!output.success) {
    throw new Error(`Cannot compile ${url.pathname}: ${new TextDecoder().decode(output.stderr)}`);
  }
  return output.stdout as Uint8Array<ArrayBuffer>;
}
