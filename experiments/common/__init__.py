"""What the experiments share: settings, the runner with its results folder, training, rules, reports and figures."""
