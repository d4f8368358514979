"""Files for what starts a night: cron, systemd, Airflow. They only call the command line, and know its exit codes."""
