"""What is written beside images: runs, jobs to replay, evaluation reports, journals of corrections."""
