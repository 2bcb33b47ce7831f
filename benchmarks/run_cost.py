"""What a run would cost on accelerators: `python benchmarks/run_cost.py --flops 20.5e9 --images 300e6`.

    chip hours = images x operations of an image / (peak x MFU x 3600)

`--flops` is the 'loss + gradient' of `launch.py --dry-run`; the MFU (the share of the peak that is reached) and the
price are yours to give: neither is measured or quoted here.
"""

import argparse

PEAKS = {"v5e": 197e12, "v5p": 459e12, "H100 SXM": 989e12}  # dense bfloat16 operations per second of one chip


def chip_hours(images: float, flops: float, peak: float, mfu: float) -> float:
    """Hours of one chip."""
    return images * flops / (peak * mfu * 3600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flops", type=float, required=True, help="operations of an image in training")
    parser.add_argument("--images", type=float, required=True, help="images seen in training")
    parser.add_argument("--mfu", type=float, nargs="+", default=[0.2, 0.3, 0.4])
    parser.add_argument("--price", type=float, default=0.0, help="of a chip hour; 0: hours alone")
    args = parser.parse_args()
    print(f"| chip | MFU | images/s a chip | chip hours |{' price |' if args.price else ''}")
    print("|---|---|---|---|" + ("---|" if args.price else ""))
    for chip, peak in PEAKS.items():
        for mfu in args.mfu:
            hours = chip_hours(args.images, args.flops, peak, mfu)
            price = f" {hours * args.price:,.0f} |" if args.price else ""
            print(f"| {chip} | {mfu:.0%} | {peak * mfu / args.flops:,.0f} | {hours:,.1f} |{price}")


if __name__ == "__main__":
    main()
