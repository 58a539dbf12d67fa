"""A sweep, its records as a pandas DataFrame, and a figure; each `# %%` begins a cell.

Run it as a script in a checkout, or open it as a notebook in VS Code, Spyder or with jupytext. It
writes to `results` and `.cache` in the working directory and takes less than a minute.
"""

# %% A sweep: three methods, two densities, two seeds. A finished run is not repeated.
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parent.parent / "run.py"
sys.path.insert(0, str(RUN.parent))  # the checkout that this file lies in
SWEEP = "-m method=snip,magnitude,random density=0.5,0.1 seed=0,1 dataset=digits model=mlp"
subprocess.run([sys.executable, RUN, *SWEEP.split(), "train.scale=0.0125"], check=True)

# %% Its records: one row for each run, with the values of the configuration as columns.
from runner import load_records  # noqa: E402

runs = load_records("results")
print(runs[["method", "density", "seed", "train.lr", "accuracy"]])

# %% Mean and deviation over the seeds.
spread = runs.groupby(["method", "density_target"])["accuracy"].agg(["mean", "std", "count"])
print(spread.round(2))

# %% A figure.
figure = spread["mean"].unstack("method").plot(marker="o", logx=True, ylabel="accuracy [%]")
figure.get_figure().savefig("sweep.png")
