/** What the generator writes of a package. @module */

/** One package. */
export interface PackageDescriptor {
  /** Packages that its messages refer to. */
  readonly needs: readonly string[];
  readonly nested: () => Record<string, unknown>;
}
